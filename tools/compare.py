"""Two files of answers side by side: python -m tools.compare A.jsonl B.jsonl [--page FILE]

Answers (eval_vlm.py --answers) are paired by picture and prompt; give runs that learned different prompts the same
--prompt. Each metric that both have is given for A and for B, with the difference, its 95% interval and p value by the
paired bootstrap (p: twice the share of resamples in which the difference has not its sign), and the number of answers
whose own score changed. Metrics of captions with references are computed anew on the pairs, as CIDEr's weights depend
on which pictures there are.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from PIL import Image

from dataset.bad_rows import BadImage, BadRows, DataError
from dataset.htmlpage import escape
from dataset.picturebook.facts import Scene
from dataset.picturebook.world import make_scene
from engine.command import guarded
from engine.console import Parser
from scoring.answer_file import Row, read_answers
from scoring.bars import arrow, error_tags, gain_signs, score_cell, sort_values
from scoring.coco import CaptionScorer
from scoring.metrics import Difference, SampleScores, differences, totals
from scoring.page import SHOWN, Shown, preview, write_page
from scoring.report import DETAILS, FIRST, aligned

Pair = tuple[Row, Row]
Compared = tuple[str, Difference, int]  # a metric's name, and how many answers have another value of it
NAMED = 5  # unpaired answers, and most changed ones
HEADS = ("metric", "A", "B", "B - A [95%]", "p", "answers changed")
SIDE = 336  # pixels of a picture on it


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("first", metavar="A", help="answers of one run")
    parser.add_argument("second", metavar="B", help="answers of another, to the same questions")
    parser.add_argument("--page", metavar="FILE", help="write an HTML page: both answers below each picture")
    parser.add_argument("--max_bad", type=float, default=0.01, help="stop when more than this share of a file is bad")
    parser.add_argument("--seed", type=int, default=42, help="of the bootstrap (default: 42)")
    args = parser.parse_args(argv)
    if not 0 <= args.max_bad <= 1:
        parser.error(f"--max_bad {args.max_bad}: expected 0 to 1")
    pairs, notes = paired(*(read(path, args.max_bad) for path in (args.first, args.second)))
    text = "\n".join([f"A: {args.first}\nB: {args.second}\n{len(pairs):,} answers in pairs", *notes])
    compared = comparison(pairs, args.seed)
    table = aligned([list(HEADS), *(cells(*one) for one in compared)])
    order = sorted(pairs, key=likeness)
    changed = sum(one["answer"] != other["answer"] for one, other in pairs)
    print(f"{text}\n\n{table}\n\n{changed:,} answers differ, most of all:\n")
    for one, other in order[: min(changed, NAMED)]:
        print(f"{one['picture']}: {one['prompt']}\n  A: {one['answer']}\n  B: {other['answer']}\n")
    if args.page:
        more = f", the {SHOWN:,} that differ most are shown" if len(pairs) > SHOWN else ""
        title = f"A: {args.first}, B: {args.second} ({len(pairs):,} answers{more})"
        write_page(args.page, (shown(*pair) for pair in order), title, text=text, top=[html_table(compared)])
        print(f"page kept in {args.page}")


def read(path: str, max_bad: float) -> list[Row]:
    """The answers of a file; prints which lines are bad."""
    bad = BadRows(max_bad)
    rows = read_answers(path, bad)
    if bad.bad:
        print(f"{path}: {bad.report()}")
    return rows


def paired(first: Sequence[Row], second: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """The answers to the same prompt about the same picture, and notes on those left out; DataError if none pair.

    Of several with the same picture and prompt the first goes to the first, the second to the second.
    """
    ones, others = numbered(first), numbered(second)
    pairs = [(row, others[key]) for key, row in ones.items() if key in others]
    notes = []
    for name, rows, held in (("A", ones, others), ("B", others, ones)):
        alone = [f"{key[0]}: {key[1]}" for key in rows if key not in held]
        if alone:
            more = ", ..." if len(alone) > NAMED else ""
            notes.append(f"{len(alone):,} only in {name}, left out: {', '.join(alone[:NAMED])}{more}")
    if not pairs:
        raise DataError(
            "no answer of A has its picture and prompt in B; expected answers to the same questions: score both runs "
            "on the same --data or --split and --n, with the same --prompt.\n" + "\n".join(notes)
        )
    other = sum(one["references"] != another["references"] for one, another in pairs)
    if other:
        notes.append(f"{other:,} have other references in B; captions of both are scored against those of A")
    return pairs, notes


def numbered(rows: Sequence[Row]) -> dict[tuple[str, str, int], Row]:
    """Rows by picture, prompt and how many of both came before."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for row in rows:
        key = row["picture"], row["prompt"]
        found[(*key, seen[key])] = row
        seen[key] += 1
    return found


def comparison(pairs: Sequence[Pair], seed: int) -> list[Compared]:
    """The metrics that both have, in the order of a table."""
    first, second = scores_of(pairs)
    compared = differences(first, second, seed)
    changed = changes(first, second)
    order = {name: i for i, name in enumerate(FIRST)}
    names = sorted(compared, key=lambda name: order.get(name, len(order)))
    return [(name, compared[name], changed[name]) for name in names
            if name not in DETAILS and compared[name].ci95 is not None and compared[name].p is not None]  # fmt: skip


def cells(name: str, one: Difference, changed: int) -> list[str]:
    low, high = one.ci95 or (0.0, 0.0)
    gain = f"{one.gain:+.3f} [{low:+.3f}, {high:+.3f}]"
    return [name, f"{one.first:.3f}", f"{one.second:.3f}", gain, f"{one.p:.3f}", f"{changed:,}"]


def html_table(compared: Sequence[Compared]) -> str:
    """The comparison with bars; a triangle stands where a difference's interval does not hold 0."""
    rows = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in HEADS) + "</tr>"]
    for name, one, changed in compared:
        css, sign = gain_signs(name, one.ci95 or (0.0, 0.0))
        top = max(1.0, one.first or 0.0, one.second or 0.0)
        _, _, _, gain, p, number = cells(name, one, changed)
        bars = "".join(f"<td>{score_cell({name: value}, name, top)}</td>" for value in (one.first, one.second))
        rows.append(f'<tr><td>{escape(name)}{arrow(name)}</td>{bars}<td class="{css}">{sign}{gain}</td>'
                    f"<td>{p}</td><td>{number}</td></tr>")  # fmt: skip
    return f'<div class="wide"><table class="scores">{"".join(rows)}</table></div>'


def scores_of(pairs: Sequence[Pair]) -> tuple[list[SampleScores], list[SampleScores]]:
    """The scores of A's and of B's answers, those of captions against A's references, computed on these pairs."""
    captions = [i for i, pair in enumerate(pairs) if all("cider_d" in row["scores"] for row in pair)]
    both = [[dict(row["scores"]) for row in rows] for rows in zip(*pairs, strict=True)]
    if captions:
        scorer = CaptionScorer([pairs[i][0]["references"] for i in captions])
        for side, scores in enumerate(both):
            for i, score in zip(captions, scorer.samples([pairs[i][side]["answer"] for i in captions]), strict=True):
                scores[i] |= score
    return both[0], both[1]


def changes(first: Sequence[SampleScores], second: Sequence[SampleScores]) -> Counter[str]:
    """In how many pairs each metric, taken of the one answer, is not the same."""
    found: Counter[str] = Counter()
    for one, other in zip(first, second, strict=True):
        ones, others = totals([one]), totals([other])
        found.update(name for name in ones.keys() & others.keys() if ones[name] != others[name])
    return found


def likeness(pair: Pair) -> float:
    """1 for equal answers, 0 for those that have no character in common in the same order."""
    one, other = (row["answer"] for row in pair)
    return 1.0 if one == other else min(SequenceMatcher(None, one, other, autojunk=False).ratio(), 0.999)


def shown(one: Row, other: Row) -> Shown:
    """Both answers below their picture, which is drawn or opened where it still is."""
    scene = scene_of(one["picture"])
    first, second = (error_tags(row["scores"]) for row in (one, other))
    tags = ["answers differ"] if one["answer"] != other["answer"] else []
    tags += ["wrong in A only"] if first and not second else ["wrong in B only"] if second and not first else []
    tags += [f"A, {tag}" for tag in first] + [f"B, {tag}" for tag in second]
    before, after = (sort_values(row["scores"]) for row in (one, other))
    values = {"likeness": likeness((one, other))}
    values |= {f"B - A, {name}": after[name] - before[name] for name in before if name in after}
    return Shown(picture_of(one, scene), one["answer"], f"{one['picture']}: {one['prompt']}", scene,
                 reference=" / ".join(one["references"]) or None, other=other["answer"], tags=tuple(tags),
                 values=values)  # fmt: skip


def scene_of(name: str) -> Scene | None:
    """The scene of a name as picturebook/test:3."""
    split, _, index = name.removeprefix("picturebook/").partition(":")
    if not name.startswith("picturebook/") or split not in ("val", "test", "compositional") or not index.isdecimal():
        return None
    return make_scene(split, int(index))


def picture_of(row: Row, scene: Scene | None) -> Image.Image | None:
    path = row.get("path")
    try:
        return preview(scene or Path(str(path)), SIDE) if scene or path else None
    except BadImage:
        return None


if __name__ == "__main__":
    sys.exit(guarded(main))
