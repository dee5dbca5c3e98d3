"""Texts of growing length about photographs: one, two or four of the captions that people gave a picture.

Nobody has described these pictures at length, but several people have in a sentence each; one after another these make
a text whose every statement somebody saw.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np

from dataset.bad_rows import BadRow
from dataset.batching import Records
from dataset.curation.quality import is_chinese
from dataset.record import Record, Turn, with_prompt

# part of a curriculum -> number of captions -> share of its records. "all" has as many tokens of each as the three
# parts one after another.
TOLD: dict[str, dict[int, float]] = {
    "short": {1: 1.0}, "middle": {2: 1.0}, "long": {4: 1.0},
    "all": {1: 0.57, 2: 0.29, 4: 0.14},
    "final": {1: 0.25, 2: 0.25, 4: 0.5},
}  # fmt: skip
PROMPTS = {  # number of captions -> English, Chinese
    1: ("Describe the picture in one sentence.", "用一句话描述这张图片。"),
    2: ("Describe the picture in two sentences.", "用两句话描述这张图片。"),
    4: ("Describe the picture in detail.", "详细描述这张图片。"),
}
LAST_STOP = re.compile(r"[\s.。]*$")


class Told:
    """`size` records of a part of a curriculum, from captions: all pictures in random order, then all once more."""

    def __init__(self, records: Records, part: str, size: int, seed: int):
        self.records, self.part, self.seed = records, part, seed
        shuffled = np.random.default_rng((seed, 9))
        passes = -(-size // len(records))
        self.rows = np.concatenate([shuffled.permutation(len(records)) for _ in range(passes)])[:size]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        """BadRow for a picture with one caption."""
        record = self.records[int(self.rows[i])]
        if len(record.references) < 2:
            error = BadRow("not several captions", "a curriculum of captions takes two or more of a picture")
            error.row_id = record.id
            raise error
        rng = random.Random(f"told {self.seed} {self.part} {i}")
        shares = TOLD[self.part]
        count = rng.choices(list(shares), list(shares.values()))[0]
        text = told(rng.sample(record.references, min(count, len(record.references))))
        asked = with_prompt(record, PROMPTS[count][is_chinese(text)])
        return replace(asked, turns=(*asked.turns[:-1], Turn("assistant", (text,))), references=())


def told(captions: list[str]) -> str:
    """The captions as sentences, one after another: ["A dog .", "a pet runs"] -> "A dog. a pet runs."."""
    stop, gap = ("。", "") if is_chinese("".join(captions)) else (".", " ")
    return gap.join(LAST_STOP.sub(stop, caption, count=1) for caption in captions)
