"""The command line of every command: help in groups, wrong flags as one line with the nearest right name."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from engine.arguments import SHARED, TrainArguments, UsageError, check, flag_of
from engine.peer_flags import MINIMIND, SAME, advice, others_names

SCRIPTS = (
    (r"python train_(vision|lm|pretrain|sft)\.py", r"glimpse train \1"), (r"python eval_vlm\.py", "glimpse eval"),
    (r"python ablate\.py", "glimpse ablate"), (r"python -m tools\.(web|publish|compare)", r"glimpse \1"),
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


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose help is short and whose errors are one line that names the nearest flag.

    A flag is added under one name, with _; it may be typed with - too, but not abbreviated.
    """

    def __init__(self, description: str | None, **options: Any):
        form = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)
        text = spelled(inspect.cleandoc(description or ""))
        super().__init__(description=text, formatter_class=form, allow_abbrev=False, **options)
        self.said: set[str] = set()
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def flags(self) -> list[str]:
        """The names of the flags, without their dashes."""
        return [name[2:] for action in self._actions for name in action.option_strings if name.startswith("--")]

    def format_help(self) -> str:
        understood = [f"--{name}" for name, targets in (SAME | MINIMIND).items() if {*targets} & {*self.flags()}]
        if understood:
            self.epilog = f"Flags may be typed with - for _. Understood too: {', '.join(understood)}."
        for action in self._actions:
            if action.metavar is None and action.choices is None and action.nargs is None and action.option_strings:
                action.metavar = {int: "N", float: "X"}.get(action.type, "TEXT")  # type: ignore[call-overload]
        positional = [str(action.metavar or action.dest) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, *positional, "[flags]"]).replace("%", "%%")
        return super().format_help()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        argv = list(sys.argv[1:] if args is None else args)
        try:
            argv = others_names([self.spelling(word) for word in argv], self.flags(), self.get_default("runs") or "",
                                self.say)  # fmt: skip
        except UsageError as error:
            self.error(str(error))
        return super().parse_known_args(argv, namespace)

    def say(self, text: str) -> None:
        """Print a line, once however often the same words are parsed."""
        if text not in self.said:
            print(text)
        self.said.add(text)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(self.unknown(rest[0], list(sys.argv[1:] if args is None else args)))
        return found

    def spelling(self, word: str) -> str:
        """A word of the command line; a flag's name with _ for -, if that is what the flag is called."""
        name, equals, value = word.partition("=")
        with_bars = "--" + name[2:].replace("-", "_")
        known = name.startswith("--") and name[2:] not in self.flags()
        return with_bars + equals + value if known else word

    def unknown(self, word: str, argv: Sequence[str]) -> str:
        """What to say of a word that belongs to no flag."""
        name = word.partition("=")[0]
        if not name.startswith("-"):
            before = argv[argv.index(word) - 1] if word in argv[1:] else ""
            switch = f"{before} takes no value; leave it out" if before.startswith("--") else "see --help"
            return f"found {word!r}, which belongs to no flag; {switch}"
        name = name.lstrip("-").replace("-", "_")
        if told := advice(name, self.flags()):
            return f"no flag is called --{name} here: {told}"
        near = difflib.get_close_matches(name, self.flags(), 1, 0.5)
        return f"no flag is called --{name}; " + (f"did you mean --{near[0]}?" if near else "--help lists them")

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        message = re.sub(r"^argument (\S+?):", r"\1:", message)
        message = re.sub(r": ignored explicit argument (.*)", r" takes no value; found \1, leave it out", message)
        message = message.replace("expected one argument", "expected a value behind it")
        if found := re.fullmatch(r"(.*?): invalid choice: (.*?) \(choose from (.*)\)", message):
            flag, value, names = found[1], found[2].strip("'"), found[3].replace("'", "")
            near = difflib.get_close_matches(value, names.split(", "), 1, 0.5)
            message = f"{flag} {value}: expected one of {names}" + (f"; did you mean {near[0]}?" if near else "")
        self.exit(2, f"error: {spelled(message)}\n")


def whole_number(text: str) -> int:
    """The number in a flag's text; an error that says what was expected."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number") from None


def number(text: str) -> float:
    """As whole_number(), with a fraction."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number") from None


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
