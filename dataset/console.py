"""The command line of every command: a short help, and wrong flags as one line with the nearest right name."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose help is short and whose errors are one line that names the nearest flag.

    A flag is added under one name, with _; it may be typed with - too, but not abbreviated.
    """

    def __init__(self, description: str | None, **options: Any):
        form = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)
        text = inspect.cleandoc(description or "")
        super().__init__(description=text, formatter_class=form, allow_abbrev=False, **options)
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def flags(self) -> list[str]:
        """The names of the flags, without their dashes."""
        return [name[2:] for action in self._actions for name in action.option_strings if name.startswith("--")]

    def format_help(self) -> str:
        for action in self._actions:
            if action.metavar is None and action.choices is None and action.nargs is None and action.option_strings:
                action.metavar = {int: "N", float: "X"}.get(action.type, "TEXT")  # type: ignore[call-overload]
        positional = [str(action.metavar or action.dest) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, *positional, "[flags]"]).replace("%", "%%")
        return super().format_help()

    def words(self, argv: Sequence[str]) -> list[str]:
        """The command line as it is parsed: with _ in the names of flags."""
        return [self.spelling(word) for word in argv]

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        return super().parse_known_args(self.words(sys.argv[1:] if args is None else args), namespace)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            word = next((word for word in rest if word.startswith("--")), rest[0])
            self.error(self.unknown(word, list(sys.argv[1:] if args is None else args)))
        return found

    def spelling(self, word: str) -> str:
        """A word of the command line; a flag's name with _ for -, unless it is called so."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name[2:] in self.flags():
            return word
        return "--" + name[2:].replace("-", "_") + equals + value

    def unknown(self, word: str, argv: Sequence[str]) -> str:
        """What to say of a word that belongs to no flag."""
        name = word.partition("=")[0]
        if not name.startswith("-"):
            before = argv[argv.index(word) - 1] if word in argv[1:] else ""
            switch = f"{before} takes no value; leave it out" if before.startswith("--") else "see --help"
            return f"found {word!r}, which belongs to no flag; {switch}"
        name = name.lstrip("-").replace("-", "_")
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
        self.exit(2, f"error: {message}\n")


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
