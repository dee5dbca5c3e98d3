"""Write a cleaned copy of a data file, and report every row that was removed or changed, with the reason."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dataset.bad_rows import BadRow, DataError
from dataset.curation.duplicates import NearIndex, exact_key
from dataset.curation.quality import cut_if_unfinished, cut_unfinished, looping, mojibake, unfinished
from dataset.formats.layout import layout_of
from dataset.formats.rows import recognise, stream_rows
from dataset.formats.sources import RecordFile, record_from_row
from dataset.formats.writing import write_rows
from dataset.record import Record

DROPS = {"looping": looping, "mojibake": mojibake}
SHOWN = 200  # characters of a text that the report quotes


@dataclass(frozen=True)
class Rules:
    """What to remove and change; by default only rows that training cannot use are removed."""

    drop: tuple[str, ...] = ()  # names of DROPS
    cut: bool = False  # truncate unfinished answers to their last full stop
    exact: bool = False  # remove exact duplicates
    near: bool = False  # remove near-duplicates
    balance: str = ""  # column of a row's class
    at_least: int = 0  # minimum rows of a class; smaller classes are removed
    at_most: int = 0  # maximum rows of a class, chosen at random; 0: no limit
    seed: int = 42


@dataclass
class Verdicts:
    """What happens to each row; rows not listed here stay unchanged."""

    total: int = 0
    removed: dict[int, dict[str, Any]] = field(default_factory=dict)  # row index -> entry of the report
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)

    def remove(self, place: int, row: str, rule: str, why: str, **more: Any) -> None:
        self.removed[place] = {"row": row, "action": "removed", "rule": rule, "why": why, **more}

    def report(self) -> str:
        """A few lines: what was removed and changed, by rule."""
        kept = [entry for place, entry in self.changed.items() if place not in self.removed]
        out, left = len(self.removed), self.total - len(self.removed)
        lines = [f"{self.total:,} rows: {out:,} removed, {left:,} left, {len(kept):,} of them changed"]
        for rule, count in Counter(entry["rule"] for entry in self.removed.values()).most_common():
            example = next(entry for entry in self.removed.values() if entry["rule"] == rule)
            lines.append(f"  {count:,} × {rule}, e.g. {example['row']}: {example['why']}")
        if kept:
            lines.append(f"  {len(kept):,} × truncated to the last full stop, e.g. {kept[0]['row']}: {kept[0]['why']}")
        return "\n".join(lines)


def judge(path: Path, rules: Rules, images: Path | None = None) -> Verdicts:
    """Apply the rules in one pass over the file; candidates for near-duplicates are then read again to compare them.

    The rules apply in the order bad rows, drop, cut, exact, near, balance: classes are counted after the rules before.
    """
    verdicts = Verdicts()
    first_of: dict[bytes, int | str] = {}
    classes: dict[int, tuple[str, str]] = {}
    near = NearIndex()
    layout, root = layout_of(path), images or path.parent
    for place, (number, row) in enumerate(stream_rows(path, all_columns=True)):
        name = f"{path.name}:{number}"
        verdicts.total += 1
        try:
            whole, _ = record_from_row(row, name, root, layout)
            record = _judge_text(verdicts, place, whole, rules)
            if record is None:
                continue
            if rules.exact:
                key = exact_key(record)
                if key in first_of:
                    _repeats(verdicts, place, record, "exact duplicate", f"{path.name}:{first_of[key]}")
                    continue
                first_of[key] = number
            if rules.near:
                near.add(place, record)
        except BadRow as error:
            verdicts.remove(place, name, f"bad row: {error.reason}", error.detail or error.reason)
            continue
        if rules.balance:
            classes[place] = name, _class(row, rules.balance, path)
    if rules.near:
        _judge_near(verdicts, RecordFile(path, images), near)
    if rules.balance:
        _balance(verdicts, {p: c for p, c in classes.items() if p not in verdicts.removed}, rules)
    return verdicts


def _judge_text(verdicts: Verdicts, place: int, record: Record, rules: Rules) -> Record | None:
    """The record, its answers truncated if the rules say so; None if it was removed."""
    for rule in rules.drop:
        for turn in record.turns:
            why = DROPS[rule](turn.text) if turn.role == "assistant" or rule == "mojibake" else ""
            if why:
                verdicts.remove(place, record.id, rule, why, text=turn.text[:SHOWN])
                return None
    if not rules.cut:
        return record
    turns, whys = [], []
    for turn in record.turns:
        why = unfinished(turn.text) if turn.role == "assistant" else ""
        whole = cut_unfinished(turn.text) if why else ""
        if why and not whole:
            why += ", and has no full stop before that"
            verdicts.remove(place, record.id, "unfinished", why, text=turn.text[:SHOWN])
            return None
        if why:
            whys.append({"why": why, "cut off": turn.text[len(whole) :][:SHOWN], "left": whole[-SHOWN:]})
        turns.append(replace(turn, parts=(whole,)) if why else turn)
    if whys:
        verdicts.changed[place] = {"row": record.id, "action": "cut", "rule": "unfinished", **whys[0]}
    return replace(record, turns=tuple(turns))


def _repeats(verdicts: Verdicts, place: int, record: Record, rule: str, first: str) -> None:
    verdicts.remove(place, record.id, rule, f"repeats {first}", of=first, text=record.turns[-1].text[:SHOWN])


def _judge_near(verdicts: Verdicts, records: RecordFile, near: NearIndex) -> None:
    @lru_cache(maxsize=256)
    def read(place: int) -> Record:
        return cut_record(records[place]) if place in verdicts.changed else records[place]

    for place, first in sorted(near.duplicates(read).items()):
        _repeats(verdicts, place, read(place), "near duplicate", read(first).id)


def _class(row: Any, column: str, path: Path) -> str:
    if column not in row:
        found = ", ".join(map(str, row))
        raise DataError(f"{path} has a row without {column!r} ({found}); expected it in every row: correct --balance")
    return str(row[column])


def _balance(verdicts: Verdicts, classes: dict[int, tuple[str, str]], rules: Rules) -> None:
    """Remove rows by the limits on classes; classes: row index -> (row id, class)."""
    members: dict[str, list[int]] = {}
    for place, (_, name) in classes.items():
        members.setdefault(name, []).append(place)
    rng = np.random.default_rng(rules.seed)
    for name, places in sorted(members.items()):
        if len(places) < rules.at_least:
            why, out = f"{rules.balance} {name!r} has {len(places)} rows, fewer than {rules.at_least}", places
        elif rules.at_most and len(places) > rules.at_most:
            why = f"{rules.balance} {name!r} has {len(places)} rows, more than {rules.at_most}; chosen at random"
            out = rng.permutation(places)[rules.at_most :].tolist()
        else:
            continue
        for place in out:
            verdicts.remove(place, classes[place][0], "balance", why)


def cut_record(record: Record) -> Record:
    """The record with each unfinished answer truncated to its last full stop."""
    turns = (replace(t, parts=(cut_if_unfinished(t.text),)) if t.role == "assistant" else t for t in record.turns)
    return replace(record, turns=tuple(turns))


def clean(path: Path, out: Path, rules: Rules, report: Path, images: Path | None = None) -> Verdicts:
    """Write the cleaned copy and the report, one line of JSON per removed or changed row."""
    for target in (out, report):
        if target.exists():
            raise DataError(f"{target} exists; files are never overwritten: name another one, or delete it")
        if not target.parent.is_dir():
            raise DataError(f"{target.parent} does not exist; expected a folder to write {target.name} to: make it")
    verdicts = judge(path, rules, images)
    if len(verdicts.removed) == verdicts.total:
        raise DataError(f"no row of {path} would be left; nothing is written.\n{verdicts.report()}")
    partial = report.with_name(report.name + ".partial")
    changed = dict(_only_changed(verdicts))
    try:
        with partial.open("wb") as file:
            for _, entry in sorted([*verdicts.removed.items(), *changed.items()]):
                file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        write_rows(path, out, verdicts.removed, changed, cut_if_unfinished)
        os.replace(partial, report)
    finally:
        partial.unlink(missing_ok=True)
    return verdicts


def _only_changed(verdicts: Verdicts) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((place, entry) for place, entry in verdicts.changed.items() if place not in verdicts.removed)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dataset.clean", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("data", metavar="IN", type=Path, help="JSONL, a JSON list, parquet or tar; it is never modified")
    add("out", metavar="OUT", type=Path, help="the copy: .jsonl or .json for JSONL and JSON, else the format of IN")
    add("--drop", default="", help=f"remove rows by these rules: {','.join(DROPS)}")
    add("--cut", default="", help="unfinished: truncate unfinished answers to their last full stop")
    add("--balance", default="", metavar="COLUMN:MIN[:MAX]", help="remove classes with fewer than MIN rows, "
        "and sample MAX rows of larger ones at random")  # fmt: skip
    add("--dedup", default="", help="remove duplicates: exact, near or both")
    add("--images", type=Path, metavar="DIR", help="image folder (default: the folder of IN)")
    add("--report", type=Path, metavar="FILE", help="report of removed and changed rows (default: OUT.report.jsonl)")
    add("--seed", type=int, default=42, help="seed of --balance (default: 42)")
    args = parser.parse_args(argv)
    try:
        args.rules = _rules(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def _rules(args: argparse.Namespace) -> Rules:
    chosen = {}
    for flag, known in (("drop", tuple(DROPS)), ("cut", ("unfinished",)), ("dedup", ("exact", "near"))):
        chosen[flag] = tuple(name.strip() for name in getattr(args, flag).split(",") if name.strip())
        wrong = [name for name in chosen[flag] if name not in known]
        if wrong:
            raise ValueError(f"--{flag} {wrong[0]}: expected {' or '.join(known)}")
    column, *limits = args.balance.split(":")
    if args.balance and not (column and 1 <= len(limits) <= 2 and all(limit.isdigit() for limit in limits)):
        raise ValueError(f"--balance {args.balance}: expected COLUMN:MIN or COLUMN:MIN:MAX, e.g. label:50")
    low, high = (*map(int, limits), 0, 0)[:2]
    if high and high < low:
        raise ValueError(f"--balance {args.balance}: MIN is {low} and MAX {high}; expected MIN <= MAX")
    return Rules(chosen["drop"], bool(chosen["cut"]), "exact" in chosen["dedup"], "near" in chosen["dedup"], column,
                 low, high, args.seed)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    report = args.report or args.out.with_name(args.out.name + ".report.jsonl")
    verdicts = clean(args.data, args.out, args.rules, report, args.images)
    print(verdicts.report())
    print(f"written to {args.out}, every row that was removed or changed to {report}")
    if recognise(args.data) in ("list", "lines") and args.out.parent.resolve() != args.data.parent.resolve():
        print(f"if its rows name image files, train on it with --images {args.images or args.data.parent}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
