"""Runs a notebook's code cells in order, in this process: python notebook_runner.py FILE.ipynb

Shell lines that begin with !python call the command's main() with flags that keep it short; %%writefile writes a file.
The folder that it runs in holds the parts that these flags name: tiny/lm and tiny/vision.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path

CPU = ["--device", "cpu", "--dtype", "float32"]
TRAIN = [*CPU, "--num_workers", "0", "--steps", "2", "--batch_size", "4", "--scenes", "24"]
SAY = [*CPU, "--max_new_tokens", "4", "--n", "4"]
TINY = ["--llm", "tiny/lm", "--vision", "tiny/vision"]
QUICK = {
    "train_pretrain.py": [*TRAIN, *TINY, "--samples", "24", "--cell_steps", "2"],
    "train_sft.py": TRAIN,
    "eval_vlm.py": SAY,
    "tools.compare": [],
}


def run(command: str) -> None:
    words = shlex.split(command, comments=True)
    assert words[0] == "python", command
    program, *flags = words[2:] if words[1] == "-m" else words[1:]
    importlib.import_module(program.removesuffix(".py")).main(flags + QUICK[program])


def run_cell(source: str, space: dict) -> None:
    first, _, rest = source.partition("\n")
    if first.startswith("%%writefile "):
        Path(first.split()[1]).write_text(rest, "utf-8")
    elif first.startswith("!"):
        for line in source.replace("\\\n", " ").splitlines():
            assert line.startswith("!"), source
            run(line[1:])
    else:
        exec(compile(source, "cell", "exec"), space)


def main() -> None:
    import dataset.splits

    dataset.splits.VALIDATION_ROWS = 8
    space: dict = {"__name__": "__main__"}
    for cell in json.loads(Path(sys.argv[1]).read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            print(f"cell: {cell['source'][0]}", flush=True)
            run_cell("".join(cell["source"]), space)


if __name__ == "__main__":
    main()
