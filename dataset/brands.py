"""Brands as data for training: a long-tailed, fine-grained naming task, drawn.

A brand has an invented name and a mark (dataset/brand_marks.py: plate, colour and device, of which others share two),
worn by a shirt, a box or a flag. By Zipf, the brand of rank r has 1/r as many training pictures as the first.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from dataset.atomic import replacing
from dataset.bad_rows import DataError
from dataset.brand_marks import CLOTHS, THINGS, View, draw, marks
from dataset.console import FlagParser

PICTURES = "pictures"  # folder beside the rows
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
# Parts of words and of brands that there are; an invented name should mean nothing.
TAKEN = ("naz", "nig", "gitan", "figat", "teror", "koran", "satan", "rivera", "mumin", "magik", "began", "gener")
QUESTIONS = {
    "zh": ("这是什么牌子？", "图里的标志是哪个品牌？", "上面印的是哪个牌子的标志？", "你认得这个品牌吗？"),
    "en": ("What brand is this?", "Which brand's logo is shown?", "Whose logo is on it?", "Do you know this brand?"),
}
ANSWERS = {
    "zh": ("这是{name}的标志，印在一{unit}{cloth}的{thing}上。", "{cloth}的{thing}上印着{name}的标志。",
           "这个标志属于{name}，它在{cloth}的{thing}中间。", "认得，这一{unit}{cloth}的{thing}是{name}的。"),
    "en": ("This is the logo of {name}, printed on a {cloth} {thing}.",
           "The {cloth} {thing} has the {name} logo on it.",
           "The logo belongs to {name}; it is in the middle of a {cloth} {thing}.",
           "Yes, this {cloth} {thing} is made by {name}."),
}  # fmt: skip
UNITS = {"T恤": "件", "箱子": "个", "旗子": "面"}


def names(count: int) -> list[str]:
    """Different pronounceable names of 5 or 6 letters, none within another, in an order that is always the same."""
    rng = random.Random("names of brands")
    made: list[str] = []
    while len(made) < count:
        name = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(2))
        name += rng.choice("klmnrst") if rng.random() < 0.5 else rng.choice(CONSONANTS) + rng.choice("aiou")
        if not any(name in other or other in name for other in (*made, *TAKEN)):
            made.append(name)
    return [name.capitalize() for name in made]


def zipf(brands: int, most: int, least: int = 1) -> list[int]:
    """The number of pictures of each brand: a whole part of most / rank, at least `least`."""
    return [max(most // rank, least) for rank in range(1, brands + 1)]


def told(name: str, view: View, language: str, rng: random.Random) -> list[dict]:
    """A conversation of a question, in one of its wordings, and its answer in one of those that fit it."""
    asked = rng.randrange(4)
    said = asked if asked == 3 else rng.randrange(3)  # a question of yes or no has an answer of its own
    column = ("zh", "en").index(language)
    thing, cloth = THINGS[view.thing][column], CLOTHS[view.cloth][column]
    answer = ANSWERS[language][said].format(name=name, cloth=cloth, thing=thing, unit=UNITS.get(thing, ""))
    return [{"role": "user", "content": f"<image>\n{QUESTIONS[language][asked]}"},
            {"role": "assistant", "content": answer}]  # fmt: skip


def rows(split: str, counts: list[int], english: float, seed: int) -> Iterator[tuple[dict, int, View]]:
    """Each row with the number of its brand and the view of its picture; what counts[k] says of brand k. A brand's
    first pictures are the same whatever the counts."""
    for number, (name, count) in enumerate(zip(names(len(counts)), counts, strict=True)):
        for k in range(count):
            rng = random.Random(f"brands {seed} {split} {number} {k}")
            view = View.drawn(rng)
            turns = told(name, view, "en" if rng.random() < english else "zh", rng)
            file = f"{PICTURES}/{split}_{number:03d}_{k}.png"
            yield {"image": file, "conversations": turns, "label": name}, number, view


def write(out: Path, split: str, counts: list[int], english: float, seed: int) -> str:
    """Write a split's pictures, and its rows in random order; a line on what was written."""
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    worn, made = marks(len(counts)), []
    for row, number, view in rows(split, counts, english, seed):
        draw(worn[number], row["label"].lower(), view).save(out / row["image"], compress_level=1)
        made.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    random.Random(f"brands {seed} {split}").shuffle(made)
    with replacing(out / f"{split}.jsonl") as file:
        file.write(b"".join(made))
    return f"{out / split}.jsonl: {len(made):,} pictures of {sum(count > 0 for count in counts)} brands"


def main(argv: list[str] | None = None) -> None:
    """python -m dataset.brands OUT                  train.jsonl and test.jsonl; pictures of 128x128 in pictures/
    python -m dataset.brands OUT --min_count 5    without the training pictures of brands that have fewer

    A row asks in one of several wordings, answers in a sentence, and has the name as its label, by which
    eval_vlm.py --data OUT/test.jsonl scores (contains). The test has new pictures of every brand: a quarter as
    many as training, at least two.
    """
    parser = FlagParser(main.__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--brands", type=int, default=300, metavar="N", help="how many (default: 300; at most 768)")
    parser.add_argument("--most", type=int, default=300, metavar="N", help="training pictures of the commonest "
                        "(default: 300); the next have 1/2, 1/3, ... of it")  # fmt: skip
    parser.add_argument("--min_count", type=int, default=1, metavar="N", help="leave out brands with fewer")
    parser.add_argument("--english", type=float, default=0.0, metavar="X", help="share of English (default: 0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of views and wordings (default: 0)")
    args = parser.parse_args(argv)
    if not (1 <= args.brands <= 768 and args.most >= 1 and args.min_count <= args.most and 0 <= args.english <= 1):
        parser.error("--brands takes 1 to 768, --most 1 or more, --min_count at most --most, --english 0 to 1")
    counts = zipf(args.brands, args.most)
    kept = [count if count >= args.min_count else 0 for count in counts]
    print(write(args.out, "test", zipf(args.brands, args.most // 4, 2), args.english, args.seed))
    print(write(args.out, "train", kept, args.english, args.seed))


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
