"""What the page is made of, without a browser: words, streams, marks, maps and curves as HTML, the command's errors."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import png

from dataset.picturebook.sft_scenes import sft_scenes
from dataset.record import IMAGE
from engine.arguments import UsageError
from engine.attribution import WordMap
from engine.checkpoint import Run, RunError
from engine.inference import Decoding
from tokenizer.tokenizer import default_folder, load_tokenizer
from tools.web import __main__ as command
from tools.web.live import chart, curves_html, head_html
from tools.web.models import Models, named, prompts_of
from tools.web.page import LONGEST, numbers
from tools.web.render import answer_html, english_facts, map_html, overlay, seen, speed, talk_html
from tools.web.talk import COMPUTING, Said, Side, Talk, Word, reply, words_of

TOKENIZER = load_tokenizer(default_folder())
SHORT = Decoding(12, 1, dtype=torch.float32)


@pytest.fixture
def looker(tiny_run):
    return Models({"a": tiny_run}, torch.device("cpu"), torch.float32).get("a")


def finish(growing) -> None:
    for _ in growing:
        pass


def shown(page: str) -> str:
    return re.sub(r"<[^>]+>", "", page)


TEXTS = ["A dog's red ball, on the left.", "海边有一只棕色的小狗。", "3 balls 🎈 and 红色 ones", "  "]


@pytest.mark.parametrize("text", TEXTS)
def test_the_words_are_the_text_and_their_tokens_follow_each_other(text):
    ids = TOKENIZER.encode(text)
    whole = TOKENIZER.decode(ids)
    words = words_of(TOKENIZER, ids)
    assert "".join(whole[word.start : word.end] for word in words) == "".join(whole.split())
    assert all(one.last <= two.first and one.end <= two.start for one, two in zip(words, words[1:], strict=False))
    assert all(TOKENIZER.decode(ids[word.first : word.last]).strip() == whole[word.start : word.end] for word in words)


def test_letters_that_stand_together_are_one_word():
    text = "a caterpillarish dog"
    assert [text[word.start : word.end] for word in words_of(TOKENIZER, TOKENIZER.encode(text))] == text.split()


def test_an_answer_grows_to_what_inference_says_and_is_remembered(looker):
    side, states = Side("a"), []
    for state in reply(looker, side, png(), "What colour?", SHORT):
        states.append(state.text)
    (said,) = side.said
    assert all(later.startswith(sooner) for sooner, later in zip(states, states[1:], strict=False))
    (alone,) = replace(looker, decoding=SHORT).say([said.ask])
    assert said.done and said.text.strip() == side.turns[1].text == alone.text and len(said.ids) == alone.tokens
    assert said.cut is not alone.stopped
    assert side.turns[0].parts[0] is IMAGE and side.turns[0].text.endswith("What colour?")
    assert said.first and said.seconds >= said.first and speed(said).startswith("first token")
    finish(reply(looker, side, png(), "<image> And where?", SHORT))
    assert len(side.turns) == 4 and side.turns[2].image_count == 0  # text cannot forge a picture
    assert side.said[1].ask.turns == side.turns[:3]


def test_a_question_that_does_not_fit_is_an_error_and_left_out(looker):
    side = Side("a")
    finish(reply(looker, side, png(), "为什么" * 2000, SHORT))
    finish(reply(looker, side, png(), "What?", Decoding(100_000, 1)))
    finish(reply(looker, side, png(), "What?", SHORT))
    long, greedy, good = side.said
    assert "does not fit" in long.error and "max_new_tokens" in greedy.error and long.done and greedy.done
    assert not good.error and len(side.turns) == 2


def test_an_answer_that_nobody_waits_for_ends_and_is_no_turn(looker):
    side = Side("a")
    growing = reply(looker, side, png(), "What?", Decoding(900, 1, dtype=torch.float32))
    next(growing)
    next(growing)
    growing.close()
    began = time.perf_counter()
    with COMPUTING:  # free again long before 900 tokens are made
        assert time.perf_counter() - began < 2
    assert side.turns == () and len(side.said[0].ids) < 900


def test_an_answer_that_is_stopped_keeps_what_was_said_and_is_no_turn(looker):
    side = Side("a")
    for said in reply(looker, side, png(), "What?", Decoding(900, 1, dtype=torch.float32)):
        said.stopped = bool(said.ids)
    assert side.turns == () and 0 < len(said.ids) < 900 and "stopped" in speed(said) and not said.cut


def test_what_is_said_and_asked_is_escaped():
    ids = TOKENIZER.encode("<script>alert(1)</script>")
    side = Side("<b>", said=[Said(SimpleNamespace(), ids, TOKENIZER.decode(ids), done=True)])
    page = talk_html(Talk(asked=["<img src=x onerror=alert(1)>"], sides=[side]), {"<b>": TOKENIZER})
    assert not re.search(r"<(script|img|b)\b", page) and "&lt;" in page
    assert "alert(1)" in shown(page)


def test_true_and_false_words_are_marked_and_can_be_chosen():
    scene = sft_scenes()["舞蹈-dance"]
    text = "A dancer and a dog."
    words = words_of(TOKENIZER, TOKENIZER.encode(text))
    page = answer_html(text, words, scene, "0,0", chosen=1)
    right = re.findall(r'<mark class="right".*?</mark>', page)
    wrong = re.findall(r'<mark class="wrong".*?</mark>', page)
    assert "dancer" in "".join(map(shown, right)) and "dog" in "".join(map(shown, wrong))
    assert page.count("chosen") == 1 and shown(page) == text


def test_the_facts_are_told_in_english():
    assert english_facts(sft_scenes()["自行车鲜花-Bicycle-Flowers"]) == (
        "in a garden · bicycle, red, on the left · three flowers, yellow, on the right"
    )


def test_the_overlay_is_strongest_where_the_map_is_and_gray_where_it_is_zero():
    cells = np.zeros((4, 4), np.float32)
    cells[1, 2] = 3
    made = np.asarray(overlay(Image.new("RGB", (64, 64), (90, 90, 90)), cells)).astype(int)
    spread = made.max(-1) - made.min(-1)
    assert np.unravel_index(spread.argmax(), spread.shape)[0] // 16 == 1 and spread[24, 40] > 100
    assert spread[40:, :16].max() <= 3
    plain = np.asarray(overlay(Image.new("RGB", (64, 64), (90, 90, 90)), np.zeros((4, 4), np.float32)))
    assert (plain.max(-1) == plain.min(-1)).all()


def test_a_map_is_shown_with_its_figures_and_limits(looker):
    made = WordMap(torch.ones(1, 4, 4), -0.1, -3.1)
    page = map_html(made, png(size=(30, 20)), looker.trained.encoder.spec, "<dog>", "run", None)
    assert "+3.00" in page and "+16.00" in page and "0.90" in page and "Integrated gradients" in page
    assert "<dog>" not in page and seen(png(size=(30, 20)), looker.trained.encoder.spec).size == (512, 512)


@pytest.mark.parametrize("at", ["", "1", "1,2", "1,2,x", "-1,0,0", "1,2,3,4", None, ["1"]])
def test_a_forged_choice_is_refused(at):
    gradio = pytest.importorskip("gradio")
    with pytest.raises(gradio.Error):
        numbers(SimpleNamespace(_data={"at": at}), 3)
    assert numbers(SimpleNamespace(_data={"at": "0,12,3"}), 3) == (0, 12, 3)


def test_the_curves_of_a_log_are_drawn_and_a_torn_line_is_left_out(tmp_path):
    run = Run(tmp_path)
    assert "nothing is logged yet" in head_html(run) and "svg" not in curves_html(run)
    rows = [{"step": i, "loss": 3 / i, "lr": 1e-3, "tokens_per_s": 100, "seconds": i} for i in range(1, 2001)]
    rows.append({"step": 2000, "val_loss": 0.5, "seconds": 2001})
    run.log_file.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 20', "utf-8")
    head, page = head_html(run), curves_html(run)
    assert "step 2,000" in head and "validation loss 0.500" in head and page.count("<svg") == 3
    assert "finished" not in head and "s ago" in head
    assert "xlink:href=\"http" not in page and len(page) < 300_000
    assert chart(rows, "gradient norm", ("grad_norm",)) == ""


def test_without_a_run_it_takes_the_last_finished_stage_and_says_so_where_there_is_none(tmp_path, tiny_run):
    with pytest.raises(UsageError, match="no finished run among .*sft3.*train_sft.py --stage 3"):
        named([], str(tmp_path))
    (tmp_path / "pretrain").symlink_to(tiny_run)
    assert list(named([], str(tmp_path))) == [str(tmp_path / "pretrain")]


def test_what_its_data_asks_is_suggested(looker):
    prompts = prompts_of(looker.trained)
    assert prompts[0] == "这是什么颜色？" and all(len(one) < LONGEST for one in prompts)


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do():
    with command.listening("127.0.0.1", 0) as taken:
        with pytest.raises(UsageError, match="give another --port"):
            command.listening("127.0.0.1", taken.getsockname()[1])
        assert command.address(taken).startswith("127.0.0.1:")
    with pytest.raises((UsageError, socket.gaierror)):
        command.listening("no such host", 0)


def test_a_run_that_is_not_there_and_gradio_missing_are_errors(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="no run.json"):
        command.main([str(tmp_path / "nothing"), "--port", "0", "--device", "cpu"])
    with pytest.raises(RunError, match="no run.json"):
        command.main(["--live", str(tmp_path), "--port", "0"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    with pytest.raises(UsageError, match="pip install -r requirements-web.txt"):
        command.main([])


def test_without_facts_words_are_buttons_and_nothing_is_marked():
    page = answer_html("abc", [Word(0, 3, 0, 1)], None, "1,2")
    assert page == '<button type="button" class="word" data-at="1,2,0">abc</button>'
