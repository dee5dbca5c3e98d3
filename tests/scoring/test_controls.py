"""Controls and warnings: what answers earn that have not seen the picture."""

from __future__ import annotations

import pytest
from tiny import conversation, write_jsonl

from dataset.record import Record, Turn, turn_from_text
from scoring.controls import captions_of_training, commonest, control_table, controls, gains, variety, warnings
from scoring.metrics import totals
from scoring.tasks import ReferenceTask, picture_book_task, question_task

THINGS = ("狗在草地上跑", "两个男孩踢足球", "红色的汽车停在路边", "女人坐在船上", "一群鸟飞过大海", "孩子在雪地里滑雪")
CAPTIONS = [(text, text + "。", f"照片里{text}") for text in THINGS * 4]


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR takes long where it is installed; tests/scoring/test_coco.py has it."""
    monkeypatch.setattr("scoring.coco.shutil.which", lambda name: None)


def task(references=CAPTIONS) -> ReferenceTask:
    turns = (turn_from_text("user", "<image>\n描述一下。"), Turn("assistant", ("不是这句",)))
    return ReferenceTask(tuple(Record(f"r:{i}", (), turns, references=one) for i, one in enumerate(references)))


def test_references_take_the_place_of_the_last_answer():
    metrics = task().score([one[0] for one in CAPTIONS])
    assert metrics["exact"] == metrics["bleu_4"] == metrics["rouge_l"] == 1.0 and metrics["cider_d"] > 5
    assert "cider" not in metrics and metrics["bleu_4_ci95"] == [1.0, 1.0]
    one = ReferenceTask((Record("r", (), task().records[0].turns),))
    assert one.captions is None and one.references == [("不是这句",)] and controls(one, ["不"]) == {}


def test_a_model_that_sees_is_above_every_control_but_a_human():
    texts = [one[0] for one in CAPTIONS]
    found = controls(task(), texts) | totals(task().samples(texts))
    for prefix in ("swapped_", "commonest_", "random_"):
        assert found[f"{prefix}cider_d"] < 0.6 * found["cider_d"] and found[f"{prefix}bleu_1"] < found["bleu_1"]
        assert {f"{prefix}{name}_ci95" for name in ("bleu_1", "bleu_4", "cider_d")} <= set(found)
    assert found["human_bleu_1"] > 0.9 and found["gain_over_swapped/cider_d_ci95"][0] > 0
    assert found["training_captions"] == 0 and controls(task(), texts) == controls(task(), texts)


def test_swapped_answers_all_go_to_another_picture():
    """Each picture has a word of its own, so that an answer left in its place would score."""
    references = [(f"w{i} w{i}",) for i in range(30)]
    found = controls(task(references), [text for (text,) in references])
    assert found["swapped_bleu_1"] == found["random_bleu_1"] == 0.0
    assert found["commonest_bleu_1"] == pytest.approx(1 / 30)
    assert "human_bleu_1" not in found


def test_captions_of_training_are_taken_in_the_references_script():
    known = [THINGS[1]] * 3 + [THINGS[0]] + ["A dog."] * 9
    found = controls(task(), ["无"] * 24, known)
    assert found["training_captions"] == 4
    right = task().captions.samples([THINGS[1]] * 24)
    assert found["commonest_bleu_1"] == totals(right)["bleu_1"]
    table = control_table(found | totals(task().samples(["无"] * 24)) | variety(task(), ["无"] * 24))
    assert "the commonest caption of training" in table and "one human against the others" in table
    assert "No METEOR: it takes java" in table and "1 different answers among 24" in table and "BLEU-4" in table


def test_one_picture_has_no_other_to_swap_with():
    found = controls(task(CAPTIONS[:1]), ["狗"])
    assert "swapped_bleu_1" not in found and "commonest_bleu_1" in found


def test_the_captions_of_a_run_are_the_answers_of_its_data(tmp_path):
    write_jsonl(tmp_path, 3, ("{not json", {"conversations": conversation("一只猫。", "什么？")}))
    found = captions_of_training({"data": f"{tmp_path}/data.jsonl:0.5"})
    assert found == ["一只猫。", "红色。它是红色的。", "绿色。它是绿色的。", "蓝色。它是蓝色的。"]
    assert captions_of_training({}) == captions_of_training({"data": f"{tmp_path}/gone.jsonl"}) == []


def test_the_commonest_text_is_counted_normalised():
    assert commonest(["A dog.", "cat", "a Dog"]) == ("A dog.", 2 / 3)


def test_questions_have_no_variety():
    assert variety(question_task("test", 1), ["有", "有"]) == {}
    found = variety(picture_book_task("test", 3), ["猫", "狗", "猫。"])
    assert found == {"answers": 3, "different_answers": 2, "commonest_answer_share": 2 / 3}


def metrics_of(texts: list[str], blind: list[str]) -> dict:
    scores, other = task().samples(texts), task().samples(blind)
    return totals(scores) | variety(task(), texts) | controls(task(), texts) | gains("blank", scores, other)


def test_a_model_that_sees_is_not_warned_of():
    metrics = metrics_of([one[0] for one in CAPTIONS], [THINGS[0]] * 24)
    assert metrics["gain_over_blank/cider_d"] > 0 and "gain_over_blank/contains" not in metrics
    assert warnings(metrics) == []


def test_a_blind_model_is_warned_of_in_three_ways():
    same, blank, swapped = warnings(metrics_of([THINGS[0]] * 24, [THINGS[0]] * 24))
    assert same.startswith("100% of 24 answers are the same") and "train_pretrain.py" in same
    assert blank.startswith("cider_d is as high with every picture blanked (gain 0.000 [0.000, 0.000])")
    assert "--vision" in blank and swapped.startswith("cider_d is as high with the answers shuffled")
    assert "24 answers the interval is wide" in blank


def test_answers_that_differ_but_do_not_fit_are_warned_of_and_few_answers_are_not():
    shifted = [*THINGS[1:], THINGS[0]] * 4
    found = warnings(metrics_of(shifted, [THINGS[0]] * 24))
    assert len(found) == 2 and not any("are the same" in one for one in found)
    assert warnings({"answers": 9, "commonest_answer_share": 1.0}) == []
    gain = "gain_over_blank/statement_accuracy"
    assert warnings({"answers": 500, gain: None, f"{gain}_ci95": None}) == []
