"""Write a cleaned copy of a data file, and report every row that was removed or changed, with the reason."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dataset.atomic import encoded, replacing
from dataset.bad_rows import BadRow, DataError
from dataset.console import FlagParser
from dataset.curation.duplicates import NearIndex, exact_key
from dataset.curation.quality import cut_if_unfinished, cut_unfinished, looping, mojibake, unfinished
from dataset.formats.layout import layout_of
from dataset.formats.rows import recognise, stream_rows
from dataset.formats.sources import RecordFile, folder_of, record_from_row
from dataset.formats.writing import write_rows
from dataset.record import Record
from dataset.views import change_answers

DROPS = {"looping": looping, "mojibake": mojibake}
SHOWN = 200  # characters of a text that the report quotes


@dataclass(frozen=True)
class Rules:
    """What to remove and change; by default only rows that training cannot use are removed."""

    drop: tuple[str, ...] = ()  # names of DROPS
    cut: bool = False  # truncate unfinished answers to their last full stop
    dedup: tuple[str, ...] = ()  # duplicates to remove: exact, near
    balance: tuple[str, int, int] | None = None  # column of a row's class, minimum and maximum rows (0: any) of a class
    seed: int = 42  # of the choice among the rows of a class above the maximum


@dataclass
class Verdicts:
    """What happens to each row; rows not listed here stay unchanged."""

    total: int = 0
    removed: dict[int, dict[str, Any]] = field(default_factory=dict)  # row index -> entry of the report
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)

    def remove(self, place: int, row: str, rule: str, why: str, **more: Any) -> None:
        self.changed.pop(place, None)
        self.removed[place] = {"row": row, "action": "removed", "rule": rule, "why": why, **more}

    def report(self) -> str:
        """A few lines: what was removed and changed, by rule."""
        out, cut = len(self.removed), list(self.changed.values())
        lines = [f"{self.total:,} rows: {out:,} removed, {self.total - out:,} left, {len(cut):,} of them changed"]
        for rule, count in Counter(entry["rule"] for entry in self.removed.values()).most_common():
            example = next(entry for entry in self.removed.values() if entry["rule"] == rule)
            lines.append(f"  {count:,} × {rule}, e.g. {example['row']}: {example['why']}")
        if cut:
            lines.append(f"  {len(cut):,} × truncated to the last full stop, e.g. {cut[0]['row']}: {cut[0]['why']}")
        return encoded("\n".join(lines)).decode()


def judge(path: Path, rules: Rules, images: Path | None = None) -> Verdicts:
    """Apply the rules in one pass over the file; candidates for near-duplicates are then read again to compare them.

    The rules apply in the order bad rows, drop, cut, exact, near, balance: classes are counted after the rules before.
    """
    verdicts = Verdicts()
    first_of: dict[bytes, str] = {}
    classes: dict[str, dict[int, str]] = {}  # class -> row index -> row id
    near = NearIndex()
    layout, root = layout_of(path), images or folder_of(path)
    for place, (name, row) in enumerate(stream_rows(path, rules.balance[:1] if rules.balance else ())):
        verdicts.total += 1
        try:
            whole, _ = record_from_row(row, name, root, layout)
            record = _judge_text(verdicts, place, whole, rules)
            if record is None:
                continue
            if "exact" in rules.dedup:
                key = exact_key(record)
                if key in first_of:
                    _repeats(verdicts, place, record, "exact duplicate", first_of[key])
                    continue
                first_of[key] = name
            if "near" in rules.dedup:
                near.add(place, record)
        except BadRow as error:
            verdicts.remove(place, name, f"bad row: {error.reason}", error.detail or error.reason)
            continue
        if rules.balance:
            column = rules.balance[0]
            if column not in row:
                raise DataError(f"{path} has a row without {column!r} ({', '.join(map(str, row))}); expected it in "
                                "every row: correct --balance")  # fmt: skip
            classes.setdefault(str(row[column]), {})[place] = name
    if "near" in rules.dedup:
        _judge_near(verdicts, RecordFile(path, images), near)
    if rules.balance:
        _balance(verdicts, classes, *rules.balance, rules.seed)
    return verdicts


def _judge_text(verdicts: Verdicts, place: int, record: Record, rules: Rules) -> Record | None:
    """The record, its answers truncated if the rules say so; None if it was removed."""
    for rule in rules.drop:
        asked = [turn.text for turn in record.turns if turn.role != "assistant"] if rule == "mojibake" else []
        for text in (*asked, *record.answers):
            if why := DROPS[rule](text):
                verdicts.remove(place, record.id, rule, why, text=text[:SHOWN])
                return None
    if not rules.cut:
        return record
    for text in record.answers:
        if not (why := unfinished(text)):
            continue
        whole = cut_unfinished(text)
        if not whole:
            why += ", and has no full stop before that"
            verdicts.remove(place, record.id, "unfinished", why, text=text[:SHOWN])
            return None
        entry = {"why": why, "cut off": text[len(whole) :][:SHOWN], "left": whole[-SHOWN:]}
        verdicts.changed.setdefault(place, {"row": record.id, "action": "cut", "rule": "unfinished", **entry})
    return change_answers(record, cut_if_unfinished)


def _repeats(verdicts: Verdicts, place: int, record: Record, rule: str, first: str) -> None:
    verdicts.remove(place, record.id, rule, f"repeats {first}", of=first, text=record.turns[-1].text[:SHOWN])


def _judge_near(verdicts: Verdicts, records: RecordFile, near: NearIndex) -> None:
    @lru_cache(maxsize=256)
    def read(place: int) -> Record:
        return change_answers(records[place], cut_if_unfinished) if place in verdicts.changed else records[place]

    for place, first in sorted(near.duplicates(read).items()):
        _repeats(verdicts, place, read(place), "near duplicate", read(first).id)


def _balance(
    verdicts: Verdicts, classes: dict[str, dict[int, str]], column: str, at_least: int, at_most: int, seed: int
) -> None:
    """Remove rows by the limits on classes; classes: class -> row index -> row id."""
    rng = np.random.default_rng(seed)
    for name, rows in sorted(classes.items()):
        places = [place for place in rows if place not in verdicts.removed]
        why = f"{column} {name!r} has {len(places)} rows, "
        if len(places) < at_least:
            why += f"fewer than {at_least}"
        elif at_most and len(places) > at_most:
            why += f"more than {at_most}; chosen at random"
            places = rng.permutation(places)[at_most:].tolist()
        else:
            continue
        for place in places:
            verdicts.remove(place, rows[place], "balance", why)


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
    with replacing(report) as file:
        for _, entry in sorted([*verdicts.removed.items(), *verdicts.changed.items()]):
            file.write(encoded(json.dumps(entry, ensure_ascii=False) + "\n"))
        write_rows(path, out, verdicts.removed, verdicts.changed, cut_if_unfinished)
    return verdicts


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = FlagParser(__doc__)
    add = parser.add_argument
    add("data", metavar="IN", type=Path, help="JSONL, a JSON list, parquet, tar or captions; it is never modified")
    add("out", metavar="OUT", type=Path, help="the copy: .jsonl or .json for JSONL, JSON and captions (a picture with "
        "all of its captions a row), else the format of IN")  # fmt: skip
    add("--drop", type=_names(*DROPS), default=(), help=f"remove rows by these rules: {','.join(DROPS)}")
    add("--cut", type=_names("unfinished"), default=(), help="unfinished: truncate unfinished answers to their last "
        "full stop")  # fmt: skip
    add("--balance", type=_limits, metavar="COLUMN:MIN[:MAX]", help="remove classes with fewer than MIN rows, "
        "and sample MAX rows of larger ones at random")  # fmt: skip
    add("--dedup", type=_names("exact", "near"), default=(), help="remove duplicates: exact, near or both")
    add("--images", type=Path, metavar="DIR", help="image folder (default: the folder of IN)")
    add("--report", type=Path, metavar="FILE", help="report of removed and changed rows (default: OUT.report.jsonl)")
    add("--seed", type=int, default=42, help="seed of --balance (default: 42)")
    return parser.parse_args(argv)


def _names(*known: str) -> Callable[[str], tuple[str, ...]]:
    """A parser of some of these names, separated by commas."""

    def names(text: str) -> tuple[str, ...]:
        given = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(f"found {name}; expected {' or '.join(known)}")
        return given

    return names


def _limits(text: str) -> tuple[str, int, int] | None:
    """Parse COLUMN:MIN[:MAX]; MAX is 0 if it is not given."""
    if not text:
        return None
    column, *limits = text.split(":")
    if not (column and 1 <= len(limits) <= 2 and all(limit.isdigit() for limit in limits)):
        raise argparse.ArgumentTypeError(f"found {text}; expected COLUMN:MIN or COLUMN:MIN:MAX, e.g. label:50")
    low, high = (*map(int, limits), 0)[:2]
    if high and high < low:
        raise argparse.ArgumentTypeError(f"MIN is {low} and MAX {high}; expected MIN <= MAX")
    return column, low, high


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    report = args.report or args.out.with_name(args.out.name + ".report.jsonl")
    rules = Rules(args.drop, bool(args.cut), args.dedup, args.balance, args.seed)
    verdicts = clean(args.data, args.out, rules, report, args.images)
    print(verdicts.report())
    print(f"written to {args.out}, every row that was removed or changed to {report}")
    folder = args.images or folder_of(args.data)
    if recognise(args.data) not in ("parquet", "webdataset tar") and args.out.parent.resolve() != folder.resolve():
        print(f"if its rows name image files, train on it with --images {folder}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # nothing half-written is left: files are written under another name first
        sys.exit(130)
