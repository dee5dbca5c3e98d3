"""easy-VQA (github.com/vzhou842/easy-VQA) as data for training: one coloured shape in each picture of 64x64."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataset.atomic import replacing
from dataset.bad_rows import DataError
from dataset.console import FlagParser

SHAPES = ("circle", "rectangle", "triangle")
NEGATED = re.compile(r"\b(?:no|not)\b")
PICTURES = "pictures"  # folder beside the rows
WHAT = "what is in the image?"


def question_row(question: str, answer: str, picture: str) -> dict:
    """A row of one question, whose label is the answer."""
    return {"image": picture, **text_row(f"<image>\n{question}", answer)}


def text_row(prompt: str, answer: str) -> dict:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"conversations": turns, "label": answer}


def caption(asked: Sequence[tuple[str, str]]) -> str:
    """What a picture's questions and answers say is there, as "a blue circle"; "" where they do not say both.

    "what is the blue shape?" says that it is blue, whatever the answer; "is there not a circle?" says that there is
    one where the answer is no.
    """
    shape, colour = "", ""
    for question, answer in asked:
        named = [word for word in question.rstrip("?").split() if word not in ("shape", "image", "present", "color")]
        if answer in ("yes", "no"):
            held = [_subject(named)] if (answer == "yes") != bool(NEGATED.search(question)) else []
        else:
            held = [answer, _subject(named)]
        for word in held:
            if word in SHAPES:
                shape = word
            elif word:
                colour = word
    return f"a {colour} {shape}" if shape and colour else ""


def _subject(words: Sequence[str]) -> str:
    """The shape or colour that a question names: its last word that is neither a function word nor a verb; or ""."""
    known = {"what", "is", "the", "of", "does", "contain", "a", "an", "in", "there", "not", "no"}
    return next((word for word in reversed(words) if word not in known), "")


def rows_of(questions: Sequence[str], answers: Sequence[str], images: Sequence[int], split: str) -> dict[str, list]:
    """The rows of each file of a split, by its name: the questions in the package's order; a caption of each picture of
    which they tell both shape and colour; and the questions about those with the caption in the picture's place."""
    asked: dict[int, list[tuple[str, str]]] = {}
    for question, answer, image in zip(questions, answers, images, strict=True):
        asked.setdefault(image, []).append((question, answer))
    files = {image: f"{PICTURES}/{split}_{image}.png" for image in asked}
    said = {image: text for image, some in asked.items() if (text := caption(some))}
    every = list(zip(questions, answers, images, strict=True))
    return {
        split: [question_row(question, answer, files[image]) for question, answer, image in every],
        f"captions_{split}": [question_row(WHAT, text, files[image]) for image, text in said.items()],
        f"words_{split}": [text_row(f"{said[image]}\n{question}", answer) for question, answer, image in every
                           if image in said],
    }  # fmt: skip


def write(out: Path, split: str, asked: tuple[list[str], list[str], list[int]], pictures: Mapping[int, str]) -> str:
    """Write the files of a split and copy its pictures; a line on what was written."""
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    for image, source in pictures.items():
        shutil.copyfile(source, out / PICTURES / f"{split}_{image}.png")
    rows = rows_of(*asked, split)
    for name, some in rows.items():
        with replacing(out / f"{name}.jsonl") as file:
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in some))
    counts = ", ".join(f"{len(some):,} in {name}.jsonl" for name, some in rows.items())
    return f"{out}: {len(pictures):,} pictures; rows: {counts}"


def main(argv: list[str] | None = None) -> None:
    """python -m dataset.easy_vqa OUT    from the package easy-vqa, for train and for test:

    train.jsonl            a row for each question, labelled with its answer; the pictures are in pictures/
    captions_train.jsonl   a row for each picture with what its questions tell of it, for an encoder
    words_train.jsonl      the questions with that caption in the picture's place, for a language model
    """
    parser = FlagParser(main.__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    args = parser.parse_args(argv)
    try:
        import easy_vqa
    except ImportError as error:
        raise DataError("the package easy-vqa is not installed, expected its pictures there: pip install easy-vqa") \
            from error
    print(write(args.out, "train", easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()))
    print(write(args.out, "test", easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()))


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
