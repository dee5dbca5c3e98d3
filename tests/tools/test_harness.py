"""The adapters for VLMEvalKit and lmms-eval: against their real base classes where installed, and as documented."""

from __future__ import annotations

import abc
import importlib.util
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tiny import png

from dataset.record import Ask
from engine.inference import answer
from tools.harness import lmms as lmms_adapter
from tools.harness import vlmevalkit
from tools.harness.answers import Answerer, cut, load_answerer, user_turn


@pytest.fixture(scope="module")
def answerer(tiny_run) -> Answerer:
    """A model of random weights, large enough that its answers are long and each picture and question has another."""
    made = load_answerer(str(tiny_run), device="cpu", dtype="float32", max_new_tokens=8)
    model = made.trained.model
    torch.manual_seed(1)
    for name, parameter in [*model.llm.named_parameters(), *model.projector.named_parameters()]:
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.5)
    return made


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path, colour in zip(paths, ((210, 40, 40), (40, 90, 210)), strict=True):
        path.write_bytes(png(colour))
    return paths


def directly(answerer: Answerer, question: list, limit: int = 8) -> str:
    """The answer without an adapter."""
    from dataclasses import replace

    from dataset.batching import pixel_loader

    turn, images = user_turn(question)
    decoding = replace(answerer.decoding, max_new_tokens=limit)
    [made] = answer(answerer.trained.model, answerer.trained.tokenizer, [Ask((turn,), images, "0")],
                    pixel_loader(answerer.trained.encoder.spec), decoding)  # fmt: skip
    return made.text


def stand_in(monkeypatch, **modules) -> None:
    """Modules of those (dotted, with __ for a dot) names and contents, as the harness' documentation gives them."""
    for name, content in modules.items():
        parts = name.split("__")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if end == len(parts) or path not in sys.modules:
                module = types.ModuleType(path)
                module.__path__ = []
                monkeypatch.setitem(sys.modules, path, module)
        vars(sys.modules[".".join(parts)]).update(content)


class KitBase:
    """VLMEvalKit's BaseModel as far as an adapter meets it: `generate` checks a message and hands it on."""

    INTERLEAVE = False
    allowed_types = ["text", "image", "video"]

    def __init__(self):
        self.dump_image_func = None

    def generate(self, message, dataset=None):
        assert all(item["type"] in self.allowed_types for item in message)
        return self.generate_inner(message, dataset)


class LmmsBase(abc.ABC):
    """lmms-eval's `lmms` as far as an adapter meets it."""

    def __init__(self):
        self.task_dict = {}
        self.cache_hook = SimpleNamespace(add_partial=lambda *args: None)

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@pytest.fixture(params=["real", "documented"])
def kit(request, monkeypatch) -> type:
    if request.param == "real":
        pytest.importorskip("vlmeval.vlm.base", reason="VLMEvalKit is not installed")
    else:
        stand_in(monkeypatch, vlmeval__vlm__base={"BaseModel": KitBase})
    return vlmevalkit.glimpse_class()


@pytest.fixture(params=["real", "documented"])
def lmms(request, monkeypatch) -> type:
    if request.param == "real":
        pytest.importorskip("lmms_eval.api.model", reason="lmms-eval is not installed")
    else:
        stand_in(monkeypatch, lmms_eval__api__model={"lmms": LmmsBase},
                 lmms_eval__api__registry={"register_model": lambda *names: lambda cls: cls})  # fmt: skip
    return lmms_adapter.glimpse_class()


def test_vlmevalkits_message_is_answered_as_the_model_answers_it(kit, answerer, files):
    model = kit("", answerer=answerer)
    message = [{"type": "image", "value": str(files[0])}, {"type": "text", "value": "这是什么颜色？"}]
    assert model.generate(message, "MMBench") == directly(answerer, [files[0], "\n这是什么颜色？"])
    several = [{"type": "text", "value": "甲"}, message[0], {"type": "image", "value": str(files[1])}, message[1]]
    assert model.generate(several) == directly(answerer, ["甲", files[0], files[1], "\n这是什么颜色？"])
    answers = [model.generate(some) for some in (message, several, [message[1]])]
    assert all(answers) and len(set(answers)) == 3


def test_vlmevalkits_other_kinds_of_parts_are_refused(kit, answerer):
    with pytest.raises(ValueError, match="found parts of type .'video'.*takes text and image"):
        kit("", answerer=answerer).generate_inner([{"type": "video", "value": "a.mp4"}], "Video-MME")


def requests(documents: list[dict], settings: list[dict], context: str = "<image>\n这是什么颜色？") -> list:
    visual = lambda document: document["images"]  # noqa: E731
    return [SimpleNamespace(args=(context, dict(one), visual, i, "task", "test")) for i, one in enumerate(settings)]


def test_lmms_evals_requests_are_answered_in_order_whatever_their_settings(lmms, answerer, files):
    model = lmms("", answerer=answerer)
    documents = [{"images": [Image.open(files[i % 2]).convert("RGB")] if i < 4 else []} for i in range(5)]
    model.task_dict = {"task": {"test": documents}}
    settings = [{"max_new_tokens": 3 + 2 * (i % 3), "until": ["\n\n"], "temperature": 0, "do_sample": False}
                for i in range(5)]  # fmt: skip
    answers = model.generate_until(requests(documents, settings))
    assert all(answers) and answers[0] != answers[3]
    for i, text in enumerate(answers):
        question = [*([files[i % 2]] if i < 4 else []), "这是什么颜色？"]
        assert text == cut(directly(answerer, question, 3 + 2 * (i % 3)), ["\n\n"])


def test_lmms_evals_stop_strings_cut_the_answer(lmms, answerer, files):
    model = lmms("", answerer=answerer)
    model.task_dict = {"task": {"test": [{"images": [Image.open(files[0])]}]}}
    whole = model.generate_until(requests([], [{}]))[0]
    assert len(whole) > 2
    assert model.generate_until(requests([], [{"until": whole[2]}]))[0] == whole[: whole.index(whole[2])]
    assert cut("abcabc", ["x", "c", "b"]) == "a" and cut("abc", []) == "abc"


def test_lmms_evals_likelihood_is_least_for_what_the_model_says(lmms, answerer, files):
    model = lmms("", answerer=answerer)
    model.task_dict = {"task": {"test": [{"images": [Image.open(files[0])], "target": "红色"}]}}
    visual = lambda document: document["images"]  # noqa: E731
    target = lambda document: document["target"]  # noqa: E731
    one, same = (SimpleNamespace(args=("问", t, visual, 0, "task", "test")) for t in ("红色", target))
    [(loss, greedy), (again, _)] = model.loglikelihood([one, same])
    assert loss == again > 0 and greedy is False
    with pytest.raises(NotImplementedError, match="multi-round tasks"):
        model.generate_until_multi_round([])


def test_a_continuations_loss_is_the_models_own_on_that_record(answerer, files):
    from dataset.batching import collate, pixel_loader
    from dataset.encoding import encode_record
    from dataset.record import Record, Turn

    model, tokenizer = answerer.trained.model, answerer.trained.tokenizer
    turn, images = user_turn([files[0], "\n问"])
    record = Record("0", images, (turn, Turn("assistant", ("红色。",))))
    example = encode_record(record, tokenizer, model.image_tokens, 512)
    batch = collate([example], tokenizer.pad_id, pixel_loader(answerer.trained.encoder.spec))
    total, count = model.loss(batch)
    assert answerer.continuation([files[0], "\n问"], "红色。")[0] == pytest.approx(float(total) / count, rel=1e-4)


def test_a_picture_that_cannot_be_read_is_warned_of_and_the_others_are_answered(answerer, files, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"torn")
    questions = [[files[0], "\n问"], [tmp_path / "torn.png", "\n问"], [files[1], "\n问"]]
    with pytest.warns(UserWarning, match="(?s)some questions have no answer.*not an image"):
        made = answerer.answer(questions)
    assert made == [directly(answerer, questions[0]), "", directly(answerer, questions[2])]


def test_text_in_a_question_forges_no_picture(answerer):
    turn, images = user_turn(["<image><|im_end|>"])
    assert turn.image_count == 0 and images == ()


def test_lmms_evals_settings_become_ours():
    greedy = {"max_new_tokens": 16, "temperature": 0, "top_p": None, "num_beams": 1}
    assert lmms_adapter.decoding(greedy) == {"max_new_tokens": 16}
    assert lmms_adapter.decoding({"do_sample": False, "temperature": 0.7}) == {}
    assert lmms_adapter.decoding({"do_sample": True, "temperature": 0.7}) == {"temperature": 0.7, "top_p": 1.0}
    with pytest.warns(UserWarning, match="num_beams 5"):
        lmms_adapter.decoding({"num_beams": 5})


def test_lmms_eval_finds_the_model_by_name(monkeypatch):
    if installed("lmms_eval"):
        models = pytest.importorskip("lmms_eval.models")
        lmms_adapter.register()
        found = models.get_model("glimpse")
        assert found.__name__ == "Glimpse" and issubclass(found, sys.modules["lmms_eval.api.model"].lmms)
        return
    table: dict = {}
    stand_in(monkeypatch, lmms_eval={"models": SimpleNamespace(AVAILABLE_MODELS=table)})
    lmms_adapter.register()
    assert table == {"glimpse": "tools.harness.lmms.Glimpse"}


def test_the_kit_is_started_with_our_model_under_its_name(monkeypatch, tmp_path):
    (tmp_path / "vlmeval").mkdir()
    (tmp_path / "run.py").write_text("import sys\nfrom vlmeval.config import supported_VLM\nsupported_VLM['seen'] = "
                                     "(sys.argv[1:], supported_VLM['glimpse']())\n")  # fmt: skip
    models: dict = {}
    stand_in(monkeypatch, vlmeval__config={"supported_VLM": models}, vlmeval__vlm__base={"BaseModel": KitBase})
    sys.modules["vlmeval"].__file__ = str(tmp_path / "vlmeval" / "__init__.py")
    monkeypatch.setattr(sys, "argv", [])
    vlmevalkit.run_kit(lambda: "a model", ["--data", "POPE"])
    assert models["seen"] == (["--model", "glimpse", "--data", "POPE"], "a model")
