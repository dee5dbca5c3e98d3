"""Tasks: right answers score fully, wrong ones do not, and none of it needs a model."""

from __future__ import annotations

import random

import pytest

from dataset.picturebook import captions_en
from dataset.picturebook.captions import caption
from dataset.picturebook.questions import SAMPLINGS, TYPES, questions
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Record, Turn, turn_from_text
from scoring.metrics import with_prefix
from scoring.tasks import picture_book_task, question_task, reference_task
from scoring.vqa import claims, same_answer

CAPTION_METRICS = {
    "f1", "precision", "recall", "chair_i", "chair_s", "colour_binding", "count_accuracy", "place_accuracy",
    "mean_length", "stopped_share", "loop_share", "unscored_share",
}  # fmt: skip


def test_true_captions_score_fully_and_all_names_are_there():
    task = picture_book_task("test", 30)
    texts = [caption(scene, "long", random.Random(i)) for i, scene in enumerate(task.scenes)]
    scores = task.score(texts, stopped=[True] * 30, tokens=[9] * 30)
    assert CAPTION_METRICS | {f"{name}_ci95" for name in CAPTION_METRICS} <= set(scores)
    for name in ("f1", "precision", "recall", "colour_binding", "count_accuracy", "place_accuracy", "stopped_share"):
        assert scores[name] == 1.0 and scores[f"{name}_ci95"] == [1.0, 1.0], name
    for name in ("chair_i", "chair_s", "loop_share", "unscored_share"):
        assert scores[name] == 0.0, name
    assert scores["mean_tokens"] == 9.0


def test_captions_of_other_scenes_score_low():
    task = picture_book_task("test", 60)
    texts = [caption(make_scene("val", i), "sentence", random.Random(i), "en") for i in range(60)]
    scores = task.score(texts)
    assert scores["f1"] < 0.3 and scores["chair_i"] > 0.7 and scores["place_accuracy"] < 0.3
    assert "stopped_share" not in scores


def test_asks_give_the_picture_and_the_prompt():
    task = picture_book_task("test", 2, length="sentence", language="en")
    ask = task.asks()[1]
    assert ask.images == (task.scenes[1],) and ask.turns[-1].parts[0] is IMAGE
    assert ask.turns[-1].parts[1].strip() == captions_en.PROMPTS["sentence"][0]


def test_a_wrong_number_of_answers_is_an_error():
    task = picture_book_task("test", 2)
    with pytest.raises(ValueError, match="1 answers for 2"):
        task.score(["一只小狗"])
    with pytest.raises(ValueError, match="stopped"):
        task.score(["", ""], stopped=[True])


def test_blanked_scores_stand_beside_the_others():
    task = picture_book_task("test", 2)
    merged = task.score(["小狗", "猫"]) | with_prefix("blank_", task.score(["", ""]))
    assert {"f1", "f1_ci95", "blank_f1", "blank_f1_ci95"} <= set(merged)
    assert merged["blank_unscored_share"] == 1.0


def record(answer: str | None, label: str | None = None) -> Record:
    turns = [turn_from_text("user", "<image>\n这是什么？")]
    if answer is not None:
        turns.append(Turn("assistant", (answer,)))
    return Record("r", (b"picture",), tuple(turns), label=label)


def test_references_are_the_last_answers_and_labels_are_counted_apart():
    task = reference_task([record("一只猫。", "猫"), record("一只狗。", "狗"), record(None), record("一匹马", "马")])
    assert [ask.turns for ask in task.asks()] == [(turn_from_text("user", "<image>\n这是什么？"),)] * 3
    scores = task.score(["一只猫", "图里是狗", "一只猫"])
    assert scores["exact"] == pytest.approx(1 / 3) and scores["contains"] == pytest.approx(2 / 3)
    assert (scores["contains/猫"], scores["contains/狗"], scores["contains/马"]) == (1.0, 1.0, 0.0)
    assert reference_task([record("a"), record("b")], limit=1).records == (record("a"),)
    with pytest.raises(ValueError, match="no record has an answer"):
        reference_task([record(None)])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_right_answers_to_questions_score_fully(language):
    task = question_task("test", 30, language, per_scene=30)
    texts = [question.answer for question, _ in task.asked]
    scores = task.score(texts, stopped=[True] * len(texts))
    by_type = (f"vqa_accuracy/{kind}" for kind in (*TYPES, "turn1", "turn2", "turn3"))
    for name in ("vqa_accuracy", "vqa_exact", "pope_accuracy", "pope_f1", *by_type):
        assert scores[name] == 1.0, name
    assert scores["pope_yes_rate"] == 0.5 and scores["pope_unparsable"] == 0.0
    for sampling in SAMPLINGS:
        assert scores[f"pope_accuracy/{sampling}"] == 1.0 and scores[f"pope_yes_rate/{sampling}"] == 0.5
    assert scores["question_stopped_share"] == 1.0 and "stopped_share" not in scores


def test_yes_to_everything_is_half_right_in_pope():
    task = question_task("test", 12)
    scores = task.score(["有。"] * len(task.asked))
    for of in ("", *(f"/{sampling}" for sampling in SAMPLINGS)):
        assert scores[f"pope_accuracy{of}"] == 0.5 and scores[f"pope_yes_rate{of}"] == 1.0
        assert scores[f"pope_f1{of}"] == pytest.approx(2 / 3)


def test_every_scene_is_in_each_sampling_and_each_of_its_questions_is_asked_once():
    task = question_task("test", 20)
    pope = [question for question, _ in task.asked if question.type == "pope"]
    for index in range(20):
        scene = make_scene("test", index)
        mine = [question for question in pope if question.scene == scene]
        assert len({question.text for question in mine}) == len(mine)
        for sampling in SAMPLINGS:
            counted = [question.truth for question in mine if sampling in question.samplings]
            assert counted.count(True) == counted.count(False) == len(scene.things)
        assert all(question.samplings == SAMPLINGS for question in mine if question.truth)


def test_each_question_is_asked_first_second_and_third_after_the_models_own_answers():
    task = question_task("test", 4)
    texts: list[str] = []
    seen: dict[int, list[tuple]] = {}
    for number in (1, 2, 3):
        asks = task.asks(texts)
        for ask, (question, turn) in zip(asks, task.asked[len(texts) :], strict=False):
            assert turn == number and ask.images == (question.scene,) and ask.turns[0].parts[0] is IMAGE
            assert ask.turns[-1].text.strip().endswith(question.text)
            assert [one.role for one in ask.turns] == ["user", "assistant"] * (turn - 1) + ["user"]
            assert all(one.text in texts for one in ask.turns[1::2])
            asked = [one.text.removeprefix("<image>").strip() for one in ask.turns[::2]]
            assert len(set(asked)) == turn
            if question.type != "pope":
                seen.setdefault(turn, []).append((question.scene, question.text))
        assert len({ask.id for ask in asks}) == len(asks)
        texts += [f"第{len(texts) + i}个回答" for i in range(len(asks))]
    assert task.asks(texts) == []
    assert len(seen[1]) == 12 and set(seen[1]) == set(seen[2]) == set(seen[3])
    with pytest.raises(ValueError, match="whole rounds"):
        task.asks(["有。"])


def test_a_turn_is_scored_apart_and_over_the_same_questions():
    task = question_task("test", 10)
    scores = task.score([question.answer if turn < 3 else "" for question, turn in task.asked])
    turns = [scores[f"vqa_accuracy/turn{turn}"] for turn in (1, 2, 3)]
    assert turns == [1.0, 1.0, 0.0] and scores["vqa_accuracy"] == 1.0


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_question_of_the_book_has_an_answer_that_says_something(language):
    for index in range(40):
        for question in questions(make_scene("val", index), random.Random(index), language):
            assert claims(question.answer, question.text, question.type), question


@pytest.mark.parametrize(
    ("answer", "reference", "question", "kind", "expected"),
    [
        ("红色", "汽车是红色的。", "汽车是什么颜色的？", "colour", True),
        ("Red.", "The car is red.", "What colour is the car?", "colour", True),
        ("红色和蓝色", "汽车是红色的。", "汽车是什么颜色的？", "colour", False),
        ("白云", "白云是白色的。", "白云是什么颜色的？", "colour", False),
        ("两只", "图里有两只小狗。", "图里有几只小狗？", "count", True),
        ("2", "There are two dogs.", "How many dogs are there?", "count", True),
        ("三只", "图里有两只小狗。", "图里有几只小狗？", "count", False),
        ("在左边", "小狗在画面的左边。", "小狗在哪里？", "where", True),
        ("沙滩上", "这是在海边。", "这是在哪里？", "where", True),
        ("左边和右边", "小狗在画面的左边。", "小狗在哪里？", "where", False),
        ("左边", "小狗在猫咪的左边。", "小狗在猫咪的左边还是右边？", "order", True),
        ("猫咪在小狗的右边", "小狗在猫咪的左边。", "小狗在猫咪的左边还是右边？", "order", True),
        ("To the right.", "The dog is to the left of the cat.", "Is the dog to the left or to the right of the cat?",
         "order", False),
        ("它在跑", "小狗正在奔跑。", "小狗在做什么？", "action", True),
        ("骑马", "男人骑着一匹棕色的马。", "男人在做什么？", "action", True),
        ("骑自行车", "男人骑着一匹棕色的马。", "男人在做什么？", "action", False),
        ("飞机", "小鸟正在飞翔。", "小鸟在做什么？", "action", False),
        ("猫和狗", "图里有一只小狗和一只猫咪。", "图里画了什么？", "what", True),
        ("猫、狗和马", "图里有一只小狗和一只猫咪。", "图里画了什么？", "what", False),
        ("no", "没有，图里没有小狗。", "图里有小狗吗？", "exists", True),
        ("Because.", "because", "Why?", "other", True),
        ("", "汽车是红色的。", "汽车是什么颜色的？", "colour", False),
    ],
)  # fmt: skip
def test_answers_are_compared_by_what_they_say(answer, reference, question, kind, expected):
    assert same_answer(answer, reference, question, kind) is expected


def test_rows_are_asked_as_they_ask_or_by_the_given_prompt():
    turns = (Turn("user", (IMAGE, "\nWhat is it?")), Turn("assistant", ("a dog",)))
    rows = [Record("1", (b"",), turns), Record("2", (b"",), turns)]
    asked = [reference_task(rows, 1, prompt).about()[0].prompt for prompt in (None, "Describe it.")]
    assert asked == ["What is it?", "Describe it."]
