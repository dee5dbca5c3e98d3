"""docs/tutorial.md and the notebook of it: one text, whose code runs in order, and gives what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import write_encoder, write_language

from dataset.bad_rows import DataError
from tools import notebook

ROOT = Path(__file__).resolve().parent.parent
PAGE, NOTEBOOK = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.ipynb"
TEXT = PAGE.read_text("utf-8")
SHOWN = re.findall(r"```python\n(?:(?!```).)*```\n\n```text\n(.*?)```", TEXT, re.DOTALL)  # what Python prints


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_made_of_the_page(tmp_path, capsys):
    notebook.main([str(PAGE), str(tmp_path / "a.ipynb")])
    made = (tmp_path / "a.ipynb").read_text("utf-8")
    assert made == NOTEBOOK.read_text("utf-8"), "repeat python -m tools.notebook docs/tutorial.md docs/tutorial.ipynb"
    document = json.loads(made)
    assert (document["nbformat"], len({cell["id"] for cell in document["cells"]})) == (4, len(document["cells"]))


def test_every_block_becomes_a_cell_but_those_left_out():
    page = ("# A\n\n<!-- notebook\nx = 1\n-->\n\n```bash\nls a \\\n    b  # c\n# d\npwd\n```\n\n```text\nout\n```\n\n"
            "```python\n# one.py\ny = 2\n```\n\n"
            "<!-- not in the notebook: long -->\n```bash\nsleep\n```\n\nEnd.\n")  # fmt: skip
    assert list(notebook.cells_of(page)) == [
        ("markdown", "# A"), ("code", "x = 1"), ("code", "!ls a \\\n    b  # c\n# d\n!pwd"),
        ("markdown", "```text\nout\n```"), ("code", "%%writefile one.py\ny = 2\n"), ("markdown", "End."),
    ]  # fmt: skip
    with pytest.raises(DataError, match="ends in .ipynb"):
        notebook.main(["a.md", "a.txt"])


def test_no_cell_installs_a_torch_where_there_is_one():
    (install,) = [code for code in code_cells() if '"pip"' in code]
    assert "requirements" not in install and "find_spec(module) is None" in install
    assert not [code for code in code_cells() if re.search(r"^!.*\bpip\b", code, re.MULTILINE)]


@pytest.mark.slow
def test_the_code_cells_run_in_order_in_a_fresh_process_and_print_what_the_page_shows(tmp_path):
    """With tiny parts and a few steps, in a folder that holds what a clone does."""
    for path in ROOT.iterdir():
        if path.name not in ("out", "wandb", "docs") and not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    write_encoder(tmp_path / "tiny" / "vision", size=64)
    write_language(tmp_path / "tiny" / "lm")
    command = [sys.executable, str(ROOT / "tests" / "notebook_runner.py"), str(NOTEBOOK)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.count("cell: ") == len(code_cells()) > 10
    assert len(SHOWN) == 2 and all(shown in done.stdout for shown in SHOWN)
    for run in ("pretrain", "shuffle", "mine"):
        assert (tmp_path / "out" / "lesson" / run / "finished.json").is_file()
    assert (tmp_path / "projectors.html").is_file() and (tmp_path / "new_pictures.html").is_file()
