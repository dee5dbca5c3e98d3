"""The command `glimpse`, which `pip install .` makes: every script of the repo by one name.

    glimpse train vision|lm|pretrain|sft [flags]     as python train_vision.py and so on
    glimpse eval [flags]                             as python eval_vlm.py
    glimpse COMMAND --help                           the flags, which are those of the script

In the repo, `python -m glimpse` is the same. In an installed package all modules lie in glimpse/, so that its `model`,
`dataset` and `tools` are in nobody's way; here they are put on the path.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from pathlib import Path

# words of a command -> its module, and what it does
COMMANDS = {
    "train vision": ("train_vision", "an image encoder, from image-text pairs"),
    "train lm": ("train_lm", "a language model, from words alone"),
    "train pretrain": ("train_pretrain", "the projector between the two, both frozen"),
    "train sft": ("train_sft", "projector and language model, in stages"),
    "eval": ("eval_vlm", "caption pictures, talk about one, or score a model"),
    "web": ("tools.web.__main__", "the same in a browser (needs gradio)"),
    "report": ("tools.report.__main__", "an index of all runs in a folder"),
    "ablate": ("ablate", "trainings with one thing changed, in one table"),
    "compare": ("tools.compare", "two files of answers side by side"),
    "check": ("dataset.check", "what a data set holds, and its bad rows"),
    "clean": ("dataset.clean", "a copy of a data set without what is bad"),
    "publish": ("tools.publish", "a run as a folder for a model hub, with its card"),
    "export llava": ("tools.export_llava", "a run as a Hugging Face LLaVA"),
    "export minimind": ("tools.export_minimind", "a run as MiniMind2-V's .pth"),
}
# command -> a library beside the core's, and how it is got
NEEDS = {"web": ("gradio", "pip install glimpse[web], or pip install gradio")}


def main() -> int:
    """Run the command that the command line names, and return its exit status."""
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here if (here / "model").is_dir() else here.parent))
    from engine.start import begin

    begin()
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0
    name = next((name for name in COMMANDS if name.split() == argv[: len(name.split())]), "")
    if not name:
        return refuse(argv)
    missing = unmet(name)
    if missing:
        print(f"error: glimpse {name}: {missing}", file=sys.stderr)
        return 1
    sys.argv = [f"glimpse {name}", *argv[len(name.split()) :]]  # what help and errors call this program
    module = importlib.import_module(COMMANDS[name][0])
    from engine.command import RESUMES, guarded

    return guarded(module.main, RESUMES if name.startswith(("train", "ablate")) else "")


def overview(under: str = "") -> str:
    """All commands, or those that begin with a word, a line each."""
    shown = {name: what for name, (_, what) in COMMANDS.items() if name.startswith(under)}
    lines = [f"  glimpse {name:<{max(map(len, shown))}}  {what}" for name, what in shown.items()]
    return "\n".join(["usage: glimpse COMMAND [flags]; glimpse COMMAND --help lists its flags", "", *lines])


def refuse(argv: list[str]) -> int:
    """Say what is wrong with words that name no command; the exit status."""
    under = {name: name.split()[1] for name in COMMANDS if name.split()[0] == argv[0] and " " in name}
    if under and argv[1:2] in (["-h"], ["--help"]):
        print(overview(argv[0]))
        return 0
    if under:
        typed, known = " ".join(argv[1:2]), list(under.values())
    else:
        typed, known = argv[0], list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    near = difflib.get_close_matches(typed, known, 1, 0.5)
    found = f"found {typed!r}" if typed else "found nothing"
    what = f"glimpse {argv[0]}: {found}" if under else f"glimpse: {found}"
    meant = f"; did you mean {near[0]}?" if near else "; glimpse --help lists them"
    print(f"error: {what}, expected one of {', '.join(known)}{meant}", file=sys.stderr)
    return 2


def unmet(name: str) -> str:
    """What a command lacks to run, and what to do; "" for nothing."""
    module = COMMANDS[name][0].split(".")
    if not all(importlib.util.find_spec(".".join(module[:i])) for i in range(1, len(module) + 1)):
        return f"{'.'.join(module)} is not in this copy of Glimpse; install a newer one"
    library, advice = NEEDS.get(name, ("", ""))
    if library and importlib.util.find_spec(library) is None:
        return f"found no {library}, which this command needs: {advice}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
