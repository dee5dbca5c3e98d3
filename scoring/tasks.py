"""Tasks: what to ask about which pictures, and how to score the answers. A task never sees the model.

    texts, stopped, tokens = one answer for each of task.asks(), in order
    metrics = task.score(texts, stopped, tokens)

`stopped` (whether an answer ended by itself) and `tokens` (its number of tokens) may be left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dataset.picturebook.book import prompt_for
from dataset.picturebook.facts import Scene
from dataset.picturebook.questions import SAMPLINGS, pope_questions, questions
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Picture, Record, Turn
from scoring import metrics
from scoring.cider import cider
from scoring.metrics import SampleScores


@dataclass(frozen=True)
class Ask:
    """One thing to answer: the turns up to the answer, with pictures in reading order of their slots."""

    turns: tuple[Turn, ...]
    images: tuple[Picture, ...]
    id: str


@dataclass(frozen=True)
class PictureBookTask:
    """Describe scenes whose facts are known: CHAIR, object F1, colours, counts, place, length, stopped, loops."""

    scenes: tuple[Scene, ...]
    prompt: str
    split: str = "test"

    def asks(self) -> list[Ask]:
        turn = Turn("user", (IMAGE, "\n" + self.prompt))
        return [Ask((turn,), (scene,), f"picturebook/{self.split}:{i}") for i, scene in enumerate(self.scenes)]

    def samples(self, texts, stopped=None, tokens=None) -> list[SampleScores]:
        """Scores of each caption, one dict a scene."""
        facts = [metrics.caption_scores(text, scene) for text, scene in _pairs(texts, self.scenes)]
        return _with_text_scores(facts, texts, stopped, tokens)

    def score(self, texts, stopped=None, tokens=None, seed: int = 0) -> dict[str, object]:
        """All metrics and their intervals."""
        return metrics.summarise(self.samples(texts, stopped, tokens), seed)


@dataclass(frozen=True)
class ReferenceTask:
    """Answer as a data set does, whose last assistant turn is the reference: exact and contains, by label if any, and
    CIDEr-D where there are several references to tell rare words by."""

    records: tuple[Record, ...]

    def asks(self) -> list[Ask]:
        return [Ask(record.turns[: _last_answer(record)], record.images, record.id) for record in self.records]

    def samples(self, texts, stopped=None, tokens=None) -> list[SampleScores]:
        references = [record.turns[_last_answer(record)].text for record in self.records]
        scores = [
            metrics.reference_scores(text, [reference], record.label)
            for (text, record), reference in zip(_pairs(texts, self.records), references, strict=True)
        ]
        if len(set(references)) > 1:
            for score, value in zip(scores, cider(texts, references), strict=True):
                score["cider"] = (value, 1)
        return _with_text_scores(scores, texts, stopped, tokens)

    def score(self, texts, stopped=None, tokens=None, seed: int = 0) -> dict[str, object]:
        """All metrics and their intervals."""
        return metrics.summarise(self.samples(texts, stopped, tokens), seed)


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a scene, with its right answer in words, and for POPE as a truth value."""

    scene: Scene
    text: str
    answer: str
    type: str  # a type of dataset.picturebook.questions, or "pope"
    sampling: str | None = None  # of POPE's absent objects
    truth: bool | None = None  # of POPE's questions


@dataclass(frozen=True)
class QuestionTask:
    """Answer questions about scenes: VQA accuracy by type of question, and POPE in its three samplings.

    Length, loops and stops are under question_<name>, apart from those of captions.
    """

    questions: tuple[AskedQuestion, ...]

    def asks(self) -> list[Ask]:
        return [
            Ask((Turn("user", (IMAGE, "\n" + question.text)),), (question.scene,), f"question:{i}")
            for i, question in enumerate(self.questions)
        ]

    def samples(self, texts, stopped=None, tokens=None) -> list[SampleScores]:
        scores = []
        for text, question in _pairs(texts, self.questions):
            if question.type == "pope":
                scores.append(metrics.pope_scores(text, bool(question.truth), question.sampling))
            else:
                scores.append(metrics.vqa_scores(text, question.answer, question.text, question.type))
        blank: list[SampleScores] = [{} for _ in texts]
        answers = _with_text_scores(blank, texts, stopped, tokens)
        return [score | metrics.with_prefix("question_", text) for score, text in zip(scores, answers, strict=True)]

    def score(self, texts, stopped=None, tokens=None, seed: int = 0) -> dict[str, object]:
        """All metrics and their intervals."""
        return metrics.summarise(self.samples(texts, stopped, tokens), seed)


def picture_book_task(
    split: str, count: int, length: str = "long", language: str = "zh", first: int = 0
) -> PictureBookTask:
    """The task of describing `count` scenes of a split at a length, with the canonical prompt for it."""
    scenes = tuple(make_scene(split, index) for index in range(first, first + count))
    return PictureBookTask(scenes, prompt_for(length, language), split)


def question_task(split: str, scenes: int, language: str = "zh", seed: int = 0, per_scene: int = 3) -> QuestionTask:
    """`per_scene` questions of the book and POPE's of one sampling in turn, for each scene; the same for a seed."""
    asked: list[AskedQuestion] = []
    for index in range(scenes):
        rng = random.Random(f"question task {split} {seed} {index}")
        scene = make_scene(split, index)
        for question in questions(scene, rng, language)[:per_scene]:
            asked.append(AskedQuestion(scene, question.text, question.answer, question.type))
        sampling = SAMPLINGS[index % len(SAMPLINGS)]
        for text, truth in pope_questions(scene, sampling, rng, language):
            asked.append(AskedQuestion(scene, text, "yes" if truth else "no", "pope", sampling, truth))
    return QuestionTask(tuple(asked))


def reference_task(records: Iterable[Record], limit: int | None = None) -> ReferenceTask:
    """The task of the first `limit` records that have an answer. Raises ValueError where there is none."""
    kept = []
    for record in records:
        if any(turn.role == "assistant" for turn in record.turns):
            kept.append(record)
        if limit is not None and len(kept) >= limit:
            break
    if not kept:
        raise ValueError("no record has an answer to compare with; expected at least one assistant turn in the data")
    return ReferenceTask(tuple(kept))


def with_blank(seen: dict[str, object], blank: dict[str, object]) -> dict[str, object]:
    """One dict of a task's metrics and of the same with the image blanked, under blank_<name>."""
    return seen | metrics.with_prefix("blank_", blank)


def _last_answer(record: Record) -> int:
    """The position of a record's last assistant turn."""
    return max(i for i, turn in enumerate(record.turns) if turn.role == "assistant")


def _pairs(texts: Sequence[str], items: Sequence) -> Iterable[tuple]:
    if len(texts) != len(items):
        raise ValueError(f"{len(texts)} answers for {len(items)} questions; expected one each, in order")
    return zip(texts, items, strict=True)


def _with_text_scores(
    scores: list[SampleScores],
    texts: Sequence[str],
    stopped: Sequence[bool] | None,
    tokens: Sequence[int] | None,
) -> list[SampleScores]:
    """Each sample's scores with length, loops, and where given stopped and tokens."""
    for name, values in (("stopped", stopped), ("tokens", tokens)):
        if values is not None and len(values) != len(texts):
            raise ValueError(f"{len(values)} values of {name} for {len(texts)} answers; expected one each")
    return [
        sample
        | metrics.text_scores(text, None if stopped is None else stopped[i], None if tokens is None else tokens[i])
        for i, (sample, text) in enumerate(zip(scores, texts, strict=True))
    ]
