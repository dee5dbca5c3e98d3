"""A Jupyter notebook of a Markdown page: python -m tools.notebook docs/tutorial.md docs/tutorial.ipynb

Prose and blocks of ```text become Markdown cells; ```python become code cells, with %%writefile where the first line is
a comment that names a .py file; ```bash become code cells whose commands begin with an exclamation mark. What stands in
a comment <!-- notebook ... --> is a code cell that the page does not show; a block after a comment
<!-- not in the notebook: REASON --> is left out. The page is the one source: edit it, and repeat the command.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from dataset.bad_rows import DataError
from engine.command import guarded

BLOCK = re.compile(
    r"^<!-- notebook\n(?P<hidden>.*?)^-->\n"
    r"|^<!-- not in the notebook: [^\n]+ -->\n```\w+\n.*?^```\n(?P<left_out>)"
    r"|^```(?P<language>python|bash)\n(?P<code>.*?)^```\n",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"# (?P<name>\w+\.py)\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="the Markdown page")
    parser.add_argument("notebook", type=Path, help="the notebook to write")
    args = parser.parse_args(argv)
    if args.notebook.suffix != ".ipynb":
        raise DataError(f"{args.notebook}: expected a name that ends in .ipynb")
    args.notebook.write_text(notebook(args.page.read_text("utf-8")), "utf-8")
    print(f"kept as {args.notebook}")


def notebook(page: str) -> str:
    """The text of the notebook (nbformat 4.5), without outputs."""
    cells = []
    for number, (kind, text) in enumerate(cells_of(page)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "accelerator": "GPU"}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def cells_of(page: str) -> Iterator[tuple[str, str]]:
    """(markdown | code, text) of each cell."""
    end = 0
    for block in BLOCK.finditer(page):
        yield from _prose(page[end : block.start()])
        end = block.end()
        if block["hidden"] is not None:
            yield "code", block["hidden"].strip()
        elif block["language"] == "bash":
            yield "code", "\n".join(_commands(block["code"]))
        elif block["language"]:
            file = FILE.match(block["code"])
            code = block["code"].strip()
            yield "code", f"%%writefile {file['name']}\n{block['code'][file.end() :].strip()}\n" if file else code
    yield from _prose(page[end:])


def _prose(text: str) -> Iterator[tuple[str, str]]:
    """A Markdown cell, with pictures and links as seen from the page's folder."""
    if text.strip():
        yield "markdown", text.strip()


def _commands(code: str) -> Iterator[str]:
    """The lines of a shell block; those that begin a command with its exclamation mark."""
    goes_on = False
    for line in code.strip().splitlines():
        yield line if goes_on or not line or line.startswith("#") else f"!{line}"
        goes_on = line.endswith("\\")


if __name__ == "__main__":
    sys.exit(guarded(main))
