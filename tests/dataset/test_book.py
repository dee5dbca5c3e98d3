"""The picture book's records: the texts of each stage, of the right scenes, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dataset.picturebook import captions_en, captions_zh
from dataset.picturebook.book import MIXES, QUESTIONS_PER_RECORD, PictureBook, prompt_for
from dataset.picturebook.checklists import PROMPTS
from dataset.picturebook.facts import Scene
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Record
from scoring.mentions import read_caption

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LENGTHS = ("phrase", "sentence", "paragraph", "long")
COUNT = 1500
KIND_OF_PROMPT = {
    prompt: (length, language)
    for language, prompts in (("zh", captions_zh.PROMPTS), ("en", captions_en.PROMPTS))
    for length in LENGTHS
    for prompt in prompts[length]
} | {prompt: ("checklist", language) for language, prompts in PROMPTS.items() for prompt in prompts}


def kind_of(record: Record) -> tuple[str, str]:
    """(text kind, language) of a record, told by its first prompt."""
    prompt = "".join(part for part in record.turns[0].parts if part is not IMAGE).strip()
    language = "en" if prompt.isascii() else "zh"
    return KIND_OF_PROMPT.get(prompt, ("questions", language))


def book(mix: str, split: str = "train", scenes: int = 500, size: int = COUNT, english: float = 0.0, seed: int = 0):
    return PictureBook(split, scenes, size, MIXES[mix], english, seed)


@pytest.mark.parametrize("mix", MIXES)
def test_the_records_of_a_stage_have_the_texts_of_its_mix(mix):
    found = Counter(kind_of(record)[0] for record in book(mix))
    assert set(found) == set(MIXES[mix])
    for kind, share in MIXES[mix].items():
        assert found[kind] / COUNT == pytest.approx(share, abs=0.05)


def test_the_shares_of_every_mix_add_up():
    for mix in MIXES.values():
        assert sum(mix.values()) == pytest.approx(1)


def test_each_stage_of_the_curriculum_adds_longer_texts_and_replays_the_earlier_ones():
    stages = [set(MIXES[f"sft{stage}"]) for stage in (1, 2, 3)]
    assert stages[0] < stages[1] < stages[2]
    assert stages[1] - stages[0] == {"paragraph"} and stages[2] - stages[1] == {"long"}


def test_answers_grow_with_the_length_that_is_asked_for():
    sums, counts = Counter(), Counter()
    for record in book("sft3"):
        kind = kind_of(record)[0]
        sums[kind] += len(record.turns[1].text)
        counts[kind] += 1
    means = [sums[length] / counts[length] for length in LENGTHS]
    assert all(longer > 1.3 * shorter for shorter, longer in zip(means, means[1:], strict=False))


def test_the_share_of_english_is_what_was_asked_for():
    for share in (0.0, 0.3, 1.0):
        languages = Counter(kind_of(record)[1] for record in book("sft3", english=share))
        assert languages["en"] / COUNT == pytest.approx(share, abs=0.05)
    assert all(record.turns[1].text.isascii() for record in book("sft1", size=50, english=1.0))


def test_the_picture_of_a_record_is_its_scene():
    some = book("sft2", scenes=70, size=200)
    for i, record in enumerate(some):
        assert record.scene == make_scene("train", i % 70)
        assert record.images == (record.scene,)
        assert [turn.image_count for turn in record.turns] == [1] + [0] * (len(record.turns) - 1)
        assert [turn.role for turn in record.turns] == ["user", "assistant"] * (len(record.turns) // 2)
        assert all(turn.text.strip() for turn in record.turns)


def test_descriptions_claim_nothing_that_is_not_in_the_picture():
    for record in book("sft3", size=300):
        if kind_of(record)[0] in LENGTHS:
            said = read_caption(record.turns[1].text)
            assert set(said.kinds) <= {thing.kind for thing in record.scene.things}


def test_questions_come_several_to_a_picture_and_not_twice():
    for record in book("sft1", size=400):
        if kind_of(record)[0] == "questions":
            asked = [turn.text for turn in record.turns[::2]]
            assert 1 <= len(asked) <= QUESTIONS_PER_RECORD and len(set(asked)) == len(asked)


def test_every_record_has_its_own_name_and_texts_differ_between_rounds_over_the_same_scenes():
    some = book("sft1", scenes=20, size=200)
    records = list(some)
    assert len({record.id for record in records}) == 200
    texts = {tuple(turn.text for turn in record.turns) for record in records if record.scene == records[0].scene}
    assert len(texts) > 3


def test_scenes_of_val_and_test_are_never_in_train():
    def facts(split: str) -> set[str]:
        return {repr((r.scene.place, r.scene.things)) for r in PictureBook(split, 2000, 2000, {"phrase": 1.0})}

    train = facts("train")
    assert not train & facts("val") and not train & facts("test") and not facts("val") & facts("test")


def test_a_record_follows_from_its_number_and_the_seed():
    assert book("sft3")[17] == book("sft3", size=20)[17]
    assert [book("sft3", seed=1)[i] for i in range(9)] != [book("sft3", seed=2)[i] for i in range(9)]


def digest() -> str:
    """Of some records of every kind, in both languages."""
    text = "\n".join(repr([(t.role, t.text) for t in book("sft3", english=0.3)[i].turns]) for i in range(60))
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.slow
def test_records_do_not_depend_on_the_order_in_which_python_keeps_sets():
    """That order changes from one process to the next, so a run that goes on would see other texts."""
    code = "import test_book; print(test_book.digest())"
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE)))}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert found == {digest()}


def test_a_number_past_the_end_is_refused():
    some = book("lm", size=3)
    assert len(some) == 3 and len(list(some)) == 3
    for i in (3, -1):
        with pytest.raises(IndexError):
            some[i]


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_prompt_of_scoring_is_the_one_that_training_shows_most(length, language):
    mix = {length: 1.0}
    records = PictureBook("train", 300, 300, mix, english=float(language == "en"))
    prompts = Counter(r.turns[0].text.replace("<image>", "").strip() for r in records)
    assert prompts.most_common(1)[0][0] == prompt_for(length, language)
    assert isinstance(records[0].images[0], Scene)
