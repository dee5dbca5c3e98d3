"""The picture book as a data set: which texts about which scenes, for each stage of training and for scoring."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dataset.picturebook.captions import LANGUAGES, caption
from dataset.picturebook.checklists import PROMPTS, checklist
from dataset.picturebook.facts import Scene
from dataset.picturebook.questions import questions
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Record, Turn

# stage -> text kind -> share of its records. Each stage of the curriculum replays the earlier ones.
MIXES: dict[str, dict[str, float]] = {
    "lm": {"phrase": 0.1, "sentence": 0.08, "paragraph": 0.07, "long": 0.11, "questions": 0.24, "checklist": 0.4},
    "vision": {"sentence": 0.5, "paragraph": 0.5},
    "pretrain": {"phrase": 0.3, "sentence": 0.3, "checklist": 0.4},
    "sft1": {"phrase": 0.2, "sentence": 0.2, "questions": 0.3, "checklist": 0.3},
    "sft2": {"phrase": 0.1, "sentence": 0.1, "paragraph": 0.4, "questions": 0.2, "checklist": 0.2},
    "sft3": {"phrase": 0.07, "sentence": 0.08, "paragraph": 0.15, "long": 0.5, "questions": 0.13, "checklist": 0.07},
}
QUESTIONS_PER_RECORD = 6


@dataclass(frozen=True)
class PictureBook(Sequence[Record]):
    """`size` records about the first `scenes` scenes of a split; record i is the same on every machine.

    mix: text kind -> share. english: share of English. The picture is its Scene, drawn on demand.
    """

    split: str
    scenes: int
    size: int
    mix: dict[str, float]
    english: float = 0.0
    seed: int = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Record:  # type: ignore[override]  # no slices
        if not 0 <= i < self.size:
            raise IndexError(i)
        rng = random.Random(f"book {self.split} {self.seed} {i}")
        scene = make_scene(self.split, i % self.scenes)
        text = rng.choices(list(self.mix), weights=list(self.mix.values()))[0]
        language = "en" if rng.random() < self.english else "zh"
        if text == "questions":
            turns = question_turns(scene, rng, language)
        elif text == "checklist":
            asked = (IMAGE, "\n" + rng.choice(PROMPTS[language]))
            turns = Turn("user", asked), Turn("assistant", (checklist(scene, rng, language),))
        else:
            turns = caption_turns(scene, text, rng, language)
        return Record(f"picturebook/{self.split}:{i}", (scene,), turns, scene=scene)


def caption_turns(scene: Scene, length: str, rng: random.Random, language: str) -> tuple[Turn, ...]:
    """A prompt for a caption of that length, and the caption."""
    prompts = LANGUAGES[language].PROMPTS[length]
    prompt = prompts[0] if rng.random() < 0.6 else rng.choice(prompts)
    parts = (IMAGE, "\n" + prompt) if rng.random() < 0.8 else (prompt + "\n", IMAGE)
    return Turn("user", parts), Turn("assistant", (caption(scene, length, rng, language),))


def question_turns(scene: Scene, rng: random.Random, language: str) -> tuple[Turn, ...]:
    """A few questions about the picture and their answers, as one conversation."""
    known = questions(scene, rng, language)
    chosen = rng.sample(known, min(QUESTIONS_PER_RECORD, len(known)))
    turns: list[Turn] = []
    for question in chosen:
        asked = (question.text,) if turns else (IMAGE, "\n" + question.text)
        turns += [Turn("user", asked), Turn("assistant", (question.answer,))]
    return tuple(turns)


def prompt_for(length: str, language: str = "zh") -> str:
    """The canonical prompt for a caption of that length."""
    return LANGUAGES[language].PROMPTS[length][0]
