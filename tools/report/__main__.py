"""An index of all runs in a folder: python -m tools.report out/ [--page FILE]

One HTML page, index.html in that folder, with the settings in which the runs differ, their curves over each other, all
scores with their intervals, and how the same pictures were answered after each stage. Each page of a run
(eval_vlm.py --page, --images) gets links to the index and to the run's other pages. Repeat the command to renew it.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from collections import Counter
from pathlib import Path

from engine.arguments import UsageError
from engine.command import guarded
from engine.console import Parser
from scoring.pagelinks import INDEX, is_index, link, run_of
from tools.report.index import write_index
from tools.report.runs import find


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", nargs="?", default="out", help="the folder of the runs (default: out)")
    parser.add_argument("--page", metavar="FILE", help=f"where to write the index (default: {INDEX} in the folder)")
    args = parser.parse_args(argv)
    root = Path(args.folder)
    page = Path(args.page) if args.page else root / INDEX
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; give one with runs in it, as train_*.py makes under out/")
    if page.exists() and not is_index(page):
        raise UsageError(f"{page} is there and is no index of runs; name another file with --page")
    found = find(root)
    if not found.runs:
        raise UsageError(f"{root}: no run lies there or in a folder below; a run's folder has a run.json, which "
                         "train_*.py writes")  # fmt: skip
    write_index(page, root, found)
    for run in found.runs:
        link([file for file in found.pages if run_of(file) == run.path.resolve()], run.path)
    states = Counter(run.state for run in found.runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    print(f"{len(found.runs)} runs ({told}), {len(found.scores)} files of scores, {len(found.pages)} pages of answers")
    for run in found.runs:
        if run.state == "broken":
            print(f"  {run.name} is broken: {run.problem}")
    print(f"the index to open in a browser: {page.resolve()}")


if __name__ == "__main__":
    sys.exit(guarded(main))
