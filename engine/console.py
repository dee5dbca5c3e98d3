"""The command line of training, evaluation and tools: dataset/console.py's, with the flags of TrainArguments in groups
and those of neighbouring projects."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from dataset.console import FlagParser
from engine.arguments import RANGES, SHARED, TrainArguments, UsageError, flag_of, rates_of
from engine.peer_flags import MINIMIND, SAME, advice, others_names

SCRIPTS = (
    (r"python train_(vision|lm|pretrain|sft)\.py", r"glimpse train \1"), (r"python eval_vlm\.py", "glimpse eval"),
    (r"python ablate\.py", "glimpse ablate"), (r"python -m tools\.(web|report|publish|compare)", r"glimpse \1"),
    (r"python -m tools\.export_(llava|minimind)", r"glimpse export \1"),
    (r"python -m dataset\.(check|clean)", r"glimpse \1"),
)  # fmt: skip


def spelled(text: str) -> str:
    """A text with the commands that it names as this program was called: `python train_lm.py`, or `glimpse train lm`
    where the installed command runs."""
    if sys.argv[0].split(" ")[0] == "glimpse":
        for script, command in SCRIPTS:
            text = re.sub(script, command, text)
    return text


class Parser(FlagParser):
    """A FlagParser that understands MiniMind-V's flags, names ours for those of other projects, and calls commands as
    this program was called."""

    def __init__(self, description: str | None, **options: Any):
        super().__init__(spelled(description or ""), **options)
        self.said: set[str] = set()

    def format_help(self) -> str:
        understood = [f"--{name}" for name, targets in (SAME | MINIMIND).items() if {*targets} & {*self.flags()}]
        if understood:
            self.epilog = f"Flags may be typed with - for _. Understood too: {', '.join(understood)}."
        return super().format_help()

    def words(self, argv: Sequence[str]) -> list[str]:
        try:
            return others_names(super().words(argv), self.flags(), self.get_default("runs") or "", self.say)
        except UsageError as error:
            self.error(str(error))

    def say(self, text: str) -> None:
        """Print a line, once however often the same words are parsed."""
        if text not in self.said:
            print(text)
        self.said.add(text)

    def unknown(self, word: str, argv: Sequence[str]) -> str:
        name = word.partition("=")[0].lstrip("-").replace("-", "_")
        told = advice(name, self.flags()) if word.startswith("-") else ""
        return f"no flag is called --{name} here: {told}" if told else super().unknown(word, argv)

    def error(self, message: str) -> NoReturn:
        super().error(spelled(message))


def parse(
    default: TrainArguments, argv: list[str] | None, flags: Iterable[str] = (), description: str = ""
) -> TrainArguments:
    """`default` with the flags in argv; a command has the SHARED ones and `flags`. Exits on a wrong flag."""
    parser = Parser(description)
    wanted, title, group = {*SHARED, *flags}, "", None
    for item in dataclasses.fields(default):
        title = item.metadata.get("group", title)
        if item.name not in wanted:
            continue
        if group is None or group.title != title:
            group = parser.add_argument_group(title)
        value, choices = getattr(default, item.name), item.metadata.get("choices")
        options = {"dest": item.name, "default": value, "help": with_default(item.metadata["help"], value)}
        if isinstance(value, bool):
            options["action"] = "store_true"
        else:
            metavar = item.metadata.get("metavar") or {int: "N", float: "X", str: "TEXT"}[type(value)]
            options |= {"type": type(value), "choices": choices, "metavar": None if choices else metavar}
        group.add_argument(f"--{flag_of(item)}", **options)
    args = TrainArguments(**{**dataclasses.asdict(default), **vars(parser.parse_args(argv))})
    problem = check(args)
    if problem:
        parser.error(problem)
    return args


def with_default(help: str, value: object) -> str:
    """The help of a flag with its default, for argparse."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    if "(0: " in help and not isinstance(value, bool):
        help = help.replace("(0: ", "(default 0: ") if value == 0 else f"{help.removesuffix(')')}; default: {shown})"
    elif shown and not isinstance(value, bool) and "(default" not in help:
        help += f" (default: {shown})"
    return help.replace("%", "%%")


def check(args: TrainArguments) -> str:
    """What is wrong with the arguments' values, or an empty string."""
    try:
        rates_of(args.learning_rates)
    except ValueError as error:
        return str(error)
    for item in dataclasses.fields(args):
        value, expected = getattr(args, item.name), item.metadata.get("range")
        if isinstance(value, float) and not math.isfinite(value):
            return f"--{item.name} {value}: expected a number"
        if expected and not RANGES[expected](value):
            return f"--{item.name} {value}: expected {expected}"
    if args.images and not args.data:
        return "--images names the folder of --data's pictures, but there is no --data"
    if args.order == "fixed" and (args.token_budget or args.curriculum):
        return "--order fixed has batches of --batch_size rows; leave out --token_budget and --curriculum"
    if args.val_data and not args.data:
        return "--val_data is what a training on --data is validated on, but there is no --data"
    if args.image_size % args.patch_size or args.patch_size & (args.patch_size - 1):
        return f"--image_size {args.image_size} --patch_size {args.patch_size}: expected a multiple of a power of two"
    if args.hidden_size % 64:
        return f"--hidden_size {args.hidden_size}: expected a multiple of 64, the width of a head"
    return ""
