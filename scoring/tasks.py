"""Evaluation tasks: what to ask about which pictures, how to score the answers. A task never sees the model.

    texts = []
    while asks := task.asks(texts):
        texts += one answer for each of asks, in order
    metrics = task.score(texts, stopped, tokens)

task.asks(texts) is the next round of questions, given the answers to all earlier ones; only a QuestionTask has more
than one. `stopped` (whether an answer ended on its own) and `tokens` (its number of tokens) may be left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat

from dataset.bad_rows import DataError
from dataset.picturebook.book import prompt_for
from dataset.picturebook.facts import Scene
from dataset.picturebook.questions import SAMPLINGS, pope_questions, questions
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, IMAGE_TAG, Ask, Picture, Record, Turn, with_prompt
from scoring import metrics
from scoring.cider import cider
from scoring.coco import CaptionScorer
from scoring.metrics import SampleScores
from scoring.photo_things import photo_scores

TURNS = 3  # questions per conversation


@dataclass(frozen=True)
class Asked:
    """What one answer is about, for people and files."""

    pictures: tuple[Picture, ...]
    id: str  # provenance
    prompt: str
    references: tuple[str, ...] = ()


class Task:
    """What tasks share: an answer is scored by what it says, in `facts`, and by how it says it."""

    prefix = ""  # of the names of an answer's length, loops and stops

    def about(self) -> list[Asked]:
        """What each answer is about, in order."""
        raise NotImplementedError

    def facts(self, texts: Sequence[str]) -> list[SampleScores]:
        """Scores of what each answer says, one dict per answer."""
        raise NotImplementedError

    def samples(self, texts, stopped=None, tokens=None) -> list[SampleScores]:
        """All scores of each answer: its facts, length, loops and, if given, stopped and tokens."""
        for name, values in (("stopped", stopped), ("tokens", tokens)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(values)} values of {name} for {len(texts)} answers; expected one each")
        forms = map(metrics.text_scores, texts, stopped or repeat(None), tokens or repeat(None))
        both = zip(self.facts(texts), forms, strict=True)
        return [facts | metrics.with_prefix(self.prefix, form) for facts, form in both]

    def score(self, texts, stopped=None, tokens=None, seed: int = 0) -> dict[str, object]:
        """All metrics and their confidence intervals."""
        return metrics.summarise(self.samples(texts, stopped, tokens), seed)


@dataclass(frozen=True)
class PictureBookTask(Task):
    """Caption scenes whose facts are known: true statements, CHAIR, object F1, details, length, stopped, loops."""

    scenes: tuple[Scene, ...]
    prompt: str
    split: str = "test"

    def asks(self, texts: Sequence[str] = ()) -> list[Ask]:
        if texts:
            return []
        turn = Turn("user", (IMAGE, "\n" + self.prompt))
        return [Ask((turn,), (scene,), _scene_id(self.split, i)) for i, scene in enumerate(self.scenes)]

    def about(self) -> list[Asked]:
        return [Asked((scene,), _scene_id(self.split, i), self.prompt) for i, scene in enumerate(self.scenes)]

    def facts(self, texts: Sequence[str]) -> list[SampleScores]:
        return [metrics.caption_scores(text, scene) for text, scene in _pairs(texts, self.scenes)]


@dataclass(frozen=True)
class ReferenceTask(Task):
    """Answer as a data set does: its references are a record's, else its last assistant turn.

    Scores: exact and contains, by label if any; where records have references those of caption_samples(), else CIDEr-D
    if there are several answers to compute IDF weights from.
    """

    records: tuple[Record, ...]

    def asks(self, texts: Sequence[str] = ()) -> list[Ask]:
        if texts:
            return []
        return [Ask(record.turns[: _last_answer(record)], record.images, record.id) for record in self.records]

    def about(self) -> list[Asked]:
        return [
            Asked(ask.images, ask.id, ask.turns[-1].text.replace(IMAGE_TAG, "").strip(), wanted)
            for ask, wanted in zip(self.asks(), self.references, strict=True)
        ]

    @cached_property
    def references(self) -> list[tuple[str, ...]]:
        """What each answer is compared with, one text or more."""
        return [record.references or (record.turns[_last_answer(record)].text,) for record in self.records]

    @cached_property
    def captions(self) -> CaptionScorer | None:
        """The scorer of captions where records have references."""
        return CaptionScorer(self.references) if any(record.references for record in self.records) else None

    def facts(self, texts: Sequence[str]) -> list[SampleScores]:
        scores = [
            metrics.reference_scores(text, wanted, record.label)
            for text, (record, wanted) in _pairs(texts, list(zip(self.records, self.references, strict=True)))
        ]
        if self.captions is not None:
            captioned = caption_samples(texts, self.references, self.captions)
            return [score | more for score, more in zip(scores, captioned, strict=True)]
        first = [wanted[0] for wanted in self.references]
        if len(set(first)) > 1:
            for score, value in zip(scores, cider(texts, first), strict=True):
                score["cider"] = (value, 1)
        return scores


def caption_samples(
    texts: Sequence[str], references: Sequence[Sequence[str]], scorer: CaptionScorer | None = None
) -> list[SampleScores]:
    """BLEU, CIDEr-D, CIDEr and ROUGE-L of a caption of each picture, and what it names that no reference does."""
    scorer = scorer or CaptionScorer(references)
    things = map(photo_scores, texts, references)
    return [scores | named for scores, named in zip(scorer.samples(texts), things, strict=True)]


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a scene, with its correct answer in words, and for POPE as a truth value."""

    scene: Scene
    text: str
    answer: str
    type: str  # a type of dataset.picturebook.questions, or "pope"
    samplings: tuple[str, ...] = ()  # the samplings of POPE that the question counts in
    truth: bool | None = None  # for POPE


@dataclass(frozen=True)
class QuestionTask(Task):
    """Answer questions about scenes: POPE in its three samplings, VQA by question type and by turn.

    A conversation is a few questions about one scene (one for POPE), asked in turn with the model's own answers in
    between: as many rounds as the longest conversation has questions.

    Length, loops and stops are under question_<name>, apart from those of captions.
    """

    prefix = "question_"
    conversations: tuple[tuple[AskedQuestion, ...], ...]
    split: str = "test"

    @property
    def asked(self) -> list[tuple[AskedQuestion, int]]:
        """Each question with its turn (from 1), in the order in which they are asked."""
        return [(self.conversations[i][turn], turn + 1) for turn, i in self._order()]

    def asks(self, texts: Sequence[str] = ()) -> list[Ask]:
        order = self._order()
        if len(texts) == len(order):
            return []
        turn = order[len(texts)][0]
        if len(texts) and order[len(texts) - 1][0] == turn:
            raise ValueError(f"{len(texts)} answers end within a round; expected those of whole rounds")
        given = dict(zip(order[: len(texts)], texts, strict=True))
        return [Ask(*self._so_far(i, turn, given), f"question:{i}.{turn}") for at, i in order if at == turn]

    def about(self) -> list[Asked]:
        scenes = {scene: i for i, scene in enumerate(dict.fromkeys(one[0].scene for one in self.conversations))}
        return [
            Asked((question.scene,), _scene_id(self.split, scenes[question.scene]), question.text, (question.answer,))
            for question, _ in self.asked
        ]

    def _order(self) -> list[tuple[int, int]]:
        """(turn, number of the conversation) of each question, round after round; turns from 0."""
        return sorted((turn, i) for i, one in enumerate(self.conversations) for turn in range(len(one)))

    def _so_far(self, i: int, turn: int, given: dict[tuple[int, int], str]) -> tuple[tuple[Turn, ...], tuple[Scene]]:
        """A conversation's turns up to a question, and its picture."""
        turns: list[Turn] = []
        for k, question in enumerate(self.conversations[i][: turn + 1]):
            turns.append(Turn("user", (question.text,) if k else (IMAGE, "\n" + question.text)))
            if k < turn:
                turns.append(Turn("assistant", (given[k, i],)))
        return tuple(turns), (self.conversations[i][0].scene,)

    def facts(self, texts: Sequence[str]) -> list[SampleScores]:
        scores = []
        for text, (question, turn) in _pairs(texts, self.asked):
            if question.type == "pope":
                scores.append(metrics.pope_scores(text, bool(question.truth), *question.samplings))
            else:
                scores.append(metrics.vqa_scores(text, question.answer, question.text, question.type, turn))
        return scores


def picture_book_task(split: str, count: int, length: str = "long", language: str = "zh") -> PictureBookTask:
    """The task to caption the first `count` scenes of a split at a length, with the canonical prompt for it."""
    scenes = tuple(make_scene(split, index) for index in range(count))
    return PictureBookTask(scenes, prompt_for(length, language), split)


def question_task(split: str, scenes: int, language: str = "zh", per_scene: int = 3) -> QuestionTask:
    """POPE and `per_scene` questions of the book about each of the first scenes of a split; always the same ones.

    The book's questions are asked in as many conversations of TURNS, each starting one question further on, so that
    every question is asked once in every turn.
    """
    conversations: list[tuple[AskedQuestion, ...]] = []
    for index in range(scenes):
        rng = random.Random(f"question task {split} 0 {index}")
        scene = make_scene(split, index)
        book = [AskedQuestion(scene, q.text, q.answer, q.type) for q in questions(scene, rng, language)[:per_scene]]
        for first in range(len(book)):
            conversations.append(tuple(book[(first + turn) % len(book)] for turn in range(min(TURNS, len(book)))))
        conversations += [(question,) for question in _pope(scene, rng, language)]
    return QuestionTask(tuple(conversations), split)


def _pope(scene: Scene, rng: random.Random, language: str) -> list[AskedQuestion]:
    """POPE's questions about a scene in all three samplings, each distinct one once."""
    counted: dict[tuple[str, bool], list[str]] = {}
    for sampling in SAMPLINGS:
        for question in pope_questions(scene, sampling, rng, language):
            counted.setdefault(question, []).append(sampling)
    return [
        AskedQuestion(scene, text, "yes" if truth else "no", "pope", tuple(samplings), truth)
        for (text, truth), samplings in counted.items()
    ]


def reference_task(
    records: Iterable[Record], limit: int | None = None, prompt: str | None = None
) -> ReferenceTask:
    """The task of the first `limit` records that have an answer, asked by `prompt` or as they ask. DataError if there
    are none."""
    answered = (record for record in records if any(turn.role == "assistant" for turn in record.turns))
    kept = tuple(islice(answered, limit))
    if not kept:
        raise DataError("no record has an answer to compare with; expected at least one assistant turn in the data")
    return ReferenceTask(tuple(with_prompt(record, prompt) for record in kept) if prompt else kept)


def _scene_id(split: str, index: int) -> str:
    return f"picturebook/{split}:{index}"


def _last_answer(record: Record) -> int:
    """The position of a record's last assistant turn."""
    return max(i for i, turn in enumerate(record.turns) if turn.role == "assistant")


def _pairs(texts: Sequence[str], items: Sequence) -> Iterable[tuple]:
    if len(texts) != len(items):
        raise ValueError(f"{len(texts)} answers for {len(items)} questions; expected one each, in order")
    return zip(texts, items, strict=True)
