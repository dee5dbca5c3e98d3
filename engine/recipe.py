"""Recipes: a TOML file with the flags of every command from a data set to a captioner, one section for each.

    python train_sft.py --stage 1 --recipe recipes/photos.toml

takes the flags of [data], then those of [sft1], then those of the command line, and first runs what comes before in
the file and is not finished. The flags of the command line are for that command alone, but for those of passed_on().
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.arguments import SHARED, TrainArguments, UsageError, flag_of, placed
from engine.checkpoint import Run
from engine.console import parse, spelled
from engine.peer_flags import restarts
from engine.plugin import load_plugin, note_change

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
CHAIN = ("vision", "lm", "pretrain", "sft1", "sft2", "sft3")  # the sections of training commands, in order
SECTIONS = ("data", *CHAIN, "eval")
PARTS = {"vision": "vision", "lm": "llm"}  # runs that train_pretrain.py starts from -> its flag
OWN = ("recipe", "stage", "out", "dry_run")  # flags of a command line alone
TO_DO = ("images", "image", "chat", "split", "data")  # flags of eval_vlm.py
TYPES = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
Flags = dict[str, Any]


def read_recipe(name: str) -> dict[str, Flags]:
    """The sections of a recipe, as TrainArguments' fields and values; those of [eval] as they stand.

    name: a file, or the name of one in recipes/, without .toml. UsageError for a file that cannot be read, and for
    sections, flags or values that no command has.
    """
    file = Path(name) if Path(name).suffix or Path(name).name != name else FOLDER / f"{name}.toml"
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        have = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise UsageError(f"--recipe {name}: {error}; expected a TOML file: copy and edit one of {have}") from error
    for title, section in found.items():
        if title not in SECTIONS:
            raise UsageError(f"{file}: found [{title}], expected {nearest(title, SECTIONS, '[{}]')}")
        if not isinstance(section, dict):
            raise UsageError(f"{file}: [{title}] is not a section, expected flags below a line [{title}]")
    for one in {str(section.get("plugin", "")) for section in found.values()}:
        load_plugin(one)
    fields = {flag_of(item): item for item in dataclasses.fields(TrainArguments) if item.name not in OWN}
    return {title: section if title == "eval" else checked(section, fields, f"{file}, [{title}]")
            for title, section in found.items()}  # fmt: skip


def nearest(found: str, known: Iterable[str], form: str = "{}") -> str:
    """The name that is meant, or all names."""
    names = list(known)
    near = difflib.get_close_matches(found, names, 1, 0.5)
    return form.format(near[0]) if near else "one of " + ", ".join(map(form.format, sorted(names)))


def checked(section: Flags, fields: Mapping[str, dataclasses.Field], where: str) -> Flags:
    """The section's values by field; UsageError where a flag is unknown, or its value of another type or no choice."""
    values: Flags = {}
    for key, value in section.items():
        item = fields.get(key.replace("-", "_"))
        if item is None:
            raise UsageError(f"{where}: no flag is called {key}, expected {nearest(key, fields)}")
        kind, choices = type(item.default), item.metadata.get("choices")
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"{where}: found {key} = {value!r}, expected {TYPES[kind]}")
        if choices and value not in choices:
            raise UsageError(f"{where}: found {key} = {value!r}, expected one of {', '.join(map(str, choices))}")
        values[item.name] = kind(value)
    return values


def command_arguments(
    name: str, default: TrainArguments, argv: list[str] | None, flags: tuple[str, ...], description: str | None
) -> TrainArguments:
    """The arguments of a command, with the folder of its run: its defaults, then --recipe's flags, then those in argv.

    name: lm, say; or sft, to which its stage is added. UsageError for a recipe that cannot be used.
    """
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", "--preset", default="")
    first.add_argument("--plugin", default="")
    first.add_argument("--stage", default=str(default.stage))
    given, _ = first.parse_known_args(argv)
    name += given.stage if name == "sft" else ""
    recipe = read_recipe(given.recipe) if given.recipe else {}
    if recipe:
        default = dataclasses.replace(default, **defaults(recipe, name, given.recipe, (*SHARED, *flags)))
    load_plugin(given.plugin if "plugin" in flags else "")  # a recipe's is loaded by now
    args = parse(default, argv, flags, description or "")
    for run, part in PARTS.items():
        if name == "pretrain" and run in recipe and not (getattr(args, part) or part == "llm" and args.from_run):
            args = dataclasses.replace(args, **{part: f"{args.runs}/{run}"})  # type: ignore[arg-type]
    args = placed(args, name)
    begun = Run(Path(args.out))
    anew = restarts(sys.argv[1:] if argv is None else argv)
    if anew and (begun.path / "run.json").is_file() and not begun.is_finished():
        raise UsageError(f"--from_resume 0: {args.out} holds a run that has begun, and a repeated command resumes it; "
                         "delete the folder to begin anew, or give another --out")  # fmt: skip
    note_change(args.plugin, Path(args.out))
    return args


def defaults(recipe: Mapping[str, Flags], name: str, file: str, flags: Iterable[str]) -> Flags:
    """What [data] and the section of a command say of its flags."""
    if name not in recipe:
        raise UsageError(f"--recipe {file}: found no section [{name}], so it makes no such run; add one to the file")
    wrong = [key for key in recipe[name] if key not in flags]
    if wrong:
        near = nearest(wrong[0], flags)
        raise UsageError(f"--recipe {file}, [{name}]: that command has no flag {wrong[0]}, expected {near}")
    shared = {key: value for key, value in recipe.get("data", {}).items() if key in flags}
    return shared | recipe[name]


def with_recipe(parser: ArgumentParser, argv: list[str] | None) -> list[str]:
    """argv behind the flags of its --recipe, which the parser gets: the runs' folder, the plugin and [eval].

    Where argv says what to do, as --image FILE, [eval] does not; with --data FILE the pictures are those of [eval].
    UsageError for a recipe that cannot be used.
    """
    parser.add_argument("--recipe", default="", metavar="FILE", help="a recipe, of which [eval] is taken")
    argv = sys.argv[1:] if argv is None else argv
    given = parser.parse_args(argv)
    if not given.recipe:
        return argv
    recipe = read_recipe(given.recipe)
    flags = recipe.get("eval", {})
    for key in flags:
        if key not in vars(given):
            near = nearest(key, vars(given))
            raise UsageError(f"--recipe {given.recipe}, [eval]: no flag is called {key}, expected {near}")
    if any(getattr(given, name) for name in TO_DO):
        kept = "images" if given.data else None
        flags = {key: value for key, value in flags.items() if key not in TO_DO or key == kept}
    flags = {key: value for key, value in recipe.get("data", {}).items() if key in ("runs", "plugin")} | flags
    switch = {True: "--{}", False: "--no-{}"}
    return [switch[value].format(key) if isinstance(value, bool) else f"--{key}={value}"
            for key, value in flags.items()] + argv  # fmt: skip


def run_before(args: TrainArguments, name: str) -> str:
    """The run that a stage starts from: the last of alignment and stages before it in the recipe, without one the one
    before. UsageError for a recipe that has none."""
    earlier = CHAIN[2 : CHAIN.index(name)]
    held = [run for run in earlier if not args.recipe or run in read_recipe(args.recipe)]
    if not held:
        raise UsageError(f"--recipe {args.recipe}: nothing there comes before [{name}]; add [pretrain], or give --from")
    return held[-1]


def missing_parts(args: TrainArguments) -> list[str]:
    """The recipe's runs of PARTS that `args` starts from and that are not finished."""
    return [run for run, part in PARTS.items() if args.recipe and getattr(args, part) == f"{args.runs}/{run}"
            and not Run(Path(args.runs) / run).is_finished()]  # fmt: skip


def last_finished(args: TrainArguments, name: str) -> Path | None:
    """The last run of alignment and the stages before `name` that is finished; None where none is."""
    earlier = (Path(args.runs) / run for run in reversed(CHAIN[2 : CHAIN.index(name)]))
    return next((run for run in earlier if Run(run).is_finished()), None)


def planned(args: TrainArguments, command: Any) -> TrainArguments:
    """The arguments that make() would start a command with. command: the script's module."""
    return command_arguments(command.NAME, command.DEFAULTS, passed_on(args), command.FLAGS, "")


def make(args: TrainArguments, run: str, main: Callable[[list[str]], None]) -> None:
    """Run the command of a run that is missing, or in a dry run its dry run; says so."""
    stage = ["--stage", run[3:]] if run.startswith("sft") else []
    command = [f"train_{run[:3] if stage else run}.py", *stage, *(["--recipe", args.recipe] if args.recipe else [])]
    what = "its plan first" if args.dry_run else "running it first"
    print(f"{args.runs}/{run} is not finished: {what} ({spelled(' '.join(['python', *command]))})")
    main(stage + passed_on(args))


def passed_on(args: TrainArguments) -> list[str]:
    """The flags that a command passes on to one that it runs first."""
    names = ["runs", "device", "dtype", "fast", *(["recipe"] if args.recipe else ["english", "seed"])]
    flags = [text for name in names for text in (f"--{name}", str(getattr(args, name)))]
    return flags + (["--dry_run"] if args.dry_run else [])
