"""Exported LLaVA folders, loaded by transformers alone, answer as we do. Runs under transformers 4.57 and 5."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import write_tokenizer
from PIL import Image
from tiny import QUICK, write_jsonl

from dataset.batching import collate, pixel_loader
from dataset.encoding import encode_prompt
from dataset.record import IMAGE, Turn
from engine.build import Trained, get_encoder, load_trained
from engine.command import guarded
from model.checkpoints import WeightsError, read_tensors
from model.config import LMConfig, ProjectorConfig, RopeScaling, VLMConfig
from model.generation import generate
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer, default_folder, load_tokenizer
from tools import export_llava

transformers = pytest.importorskip("transformers")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TINY, TOKENIZER = DATA / "minimind_v_tiny", DATA / "minimind_tokenizer"
needs_data = pytest.mark.skipif(
    not (TINY.is_dir() and TOKENIZER.is_dir()), reason="../shared/data/minimind_v_tiny is not on this machine"
)
QUESTION = "图里有什么？ What is it"
SIZES = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 32, "patch_size": 8}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A CLIP folder of random weights whose last LayerNorm is not the identity."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(3)
    tower = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SIZES))
    for name, parameter in tower.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if name.endswith("norm.weight") else 0.0, 0.2)
    tower.save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def build(clip: Path, kind: str = "mlp", tokenizer: Tokenizer | None = None, vision: dict | None = None, **changes):
    """A Trained of random weights, confident enough that its greedy answer is not a toss-up.

    tokenizer: ours unless given; vision: changes of the encoder's config; others: of the language model's.
    """
    torch.manual_seed(5)
    encoder, tokenizer = get_encoder(str(clip)), tokenizer or load_tokenizer(default_folder())
    lm = replace(LMConfig(32, 2, 4, 2, 48, tokenizer.vocab_size, max_position_embeddings=256), **changes)
    tower = VisionTransformer(replace(encoder.module.config, **(vision or {})))
    tower.load_state_dict(encoder.module.state_dict())
    projector = ProjectorConfig(kind, tower.config.hidden_size, lm.hidden_size)
    vlm = VLM(VLMConfig(lm, tower.config, projector), tower)
    for name, parameter in vlm.llm.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.2)
    return Trained(Path("a run"), vlm.eval(), tokenizer, replace(encoder, module=tower))


def picture(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), np.uint8)
    return Image.fromarray(noise).resize((90, 60), Image.Resampling.BICUBIC)


def ours(trained: Trained, files: list[Path], text: str = QUESTION) -> tuple[list[int], torch.Tensor, list[int]]:
    """(prompt ids, logits at the last position, 12 greedy ids) of a question about pictures."""
    turn = Turn("user", (*[IMAGE] * len(files), "\n" + text) if files else (text,))
    example = encode_prompt((turn,), trained.tokenizer, trained.model.image_tokens, tuple(files))
    batch = collate([example], trained.tokenizer.pad_id, pixel_loader(trained.encoder.spec), left=True)
    with torch.no_grad():
        logits = trained.model.logits(batch)[0]
    made = generate(trained.model, batch, max_new_tokens=12, end_id=trained.tokenizer.end_ids)
    return example.ids.tolist(), logits, made.ids[0]


def theirs(folder: Path, files: list[Path], text: str = QUESTION) -> tuple[list[int], torch.Tensor, list[int]]:
    """The same by transformers' own classes."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    content = [{"type": "image", "image": Image.open(file).convert("RGB")} for file in files]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True,
                                           return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        logits = model(**inputs).logits[0]
        made = model.generate(**inputs, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :].tolist()
    ends = [i for i, token in enumerate(made) if token in model.generation_config.eos_token_id]
    return inputs["input_ids"][0].tolist(), logits, made[: ends[0]] if ends else made


def check_same(trained: Trained, folder: Path, tmp_path: Path, count: int = 1, image_id: int | None = None) -> None:
    files = [tmp_path / f"{i}.png" for i in range(count)]
    for seed, file in enumerate(files):
        picture(seed).save(file)
    ids, logits, greedy = ours(trained, files)
    their_ids, their_logits, their_greedy = theirs(folder, files)
    if image_id is not None:
        ids = [image_id if i == trained.tokenizer.image_id else i for i in ids]
    assert their_ids == ids
    width = logits.shape[-1]
    assert (their_logits[:, :width] - logits).abs().max() < 1e-3
    assert their_greedy == greedy and len(greedy) > 1
    blank_ids, blank, _ = ours(trained, [])
    assert (logits[-1] - blank[-1]).abs().max() > 0.01  # the picture matters, so the comparison says something


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("lm", [{}, {"attention_bias": True, "tie_word_embeddings": False}], ids=["llama", "qwen2"])
def test_transformers_alone_gives_our_ids_logits_and_answers(clip, tmp_path, kind, lm):
    trained = build(clip, kind, **lm)
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"]["model_type"] == ("qwen2" if lm else "llama")
    assert config["image_seq_length"] == trained.model.image_tokens == 16


@pytest.mark.parametrize("layer", [-2, -3])
def test_the_features_are_those_of_the_chosen_layer(clip, tmp_path, layer):
    trained = build(clip, vision={"feature_layer": layer})
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path)


def test_llama_3s_stretched_positions_and_head_width_are_written_for_both_versions(clip, tmp_path):
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    trained = build(clip, head_width=12, rope_scaling=RopeScaling(**scaling), rope_theta=5e4)
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path)


@pytest.mark.parametrize("family", ["qwen2", "qwen2.5", "llama3"])
def test_other_families_keep_their_template_and_ids(clip, tmp_path, family):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "words", family))
    trained = build(clip, tokenizer=tokenizer, vocab_size=tokenizer.vocab_size)
    export_llava.export(trained, tmp_path / "out")
    new = None if tokenizer.image_id != tokenizer.pad_id else tokenizer.vocab_size
    check_same(trained, tmp_path / "out", tmp_path, image_id=new)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(4)
    transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES)).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_siglips_features_of_an_earlier_layer_are_llavas(siglip, tmp_path):
    trained = build(siglip, vision={"feature_layer": -2})
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path)
    processor = json.loads((tmp_path / "out" / "processor_config.json").read_text())
    assert (processor["vision_feature_select_strategy"], processor["num_additional_image_tokens"]) == ("full", 0)


def test_siglips_last_features_which_llava_takes_before_their_layernorm_are_refused(siglip, tmp_path):
    with pytest.raises(WeightsError, match="after the encoder's last LayerNorm.*--feature_layer -2"):
        export_llava.export(build(siglip), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_with_siglip_is_exported_where_it_was_told_to_take_an_earlier_layer(siglip, tiny, tmp_path):
    """The stage after it takes the same layer without being told, and scores do too."""
    import train_pretrain
    import train_sft

    data = ["--data", write_jsonl(tmp_path, 12), "--images", tmp_path / "images", *QUICK, "--steps", 1]
    first = ["--llm", tiny / "lm", "--vision", siglip, "--projector", "mlp", "--feature_layer", -2]
    train_pretrain.main([str(flag) for flag in (*data, *first, "--out", tmp_path / "one")])
    train_sft.main([str(flag) for flag in (*data, "--stage", 3, "--from", tmp_path / "one", "--out", tmp_path / "two")])
    trained = load_trained(tmp_path / "two")
    assert trained.encoder.module.config.feature_layer == -2
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path)
    bad = [*data, *first[:-1], -9, "--out", tmp_path / "three"]
    assert guarded(lambda: train_pretrain.main([str(flag) for flag in bad])) == 1


def test_several_pictures_in_one_question(clip, tmp_path):
    trained = build(clip)
    export_llava.export(trained, tmp_path / "out")
    check_same(trained, tmp_path / "out", tmp_path, count=2)


def test_every_weight_is_loaded_and_none_is_left_over(clip, tmp_path):
    export_llava.export(build(clip), tmp_path / "out")
    load = transformers.LlavaForConditionalGeneration.from_pretrained
    _, info = load(tmp_path / "out", output_loading_info=True)
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[name], name


def test_clips_last_layernorm_is_kept_and_else_does_nothing(clip, tmp_path):
    name = "vision_tower.vision_model.post_layernorm."
    there = {key.rpartition(".")[2]: x for key, x in read_tensors(clip / "model.safetensors").items()
             if "post_layernorm." in key}  # fmt: skip
    export_llava.export(build(clip), tmp_path / "a")
    kept = read_tensors(tmp_path / "a" / "model.safetensors")
    assert all(torch.equal(kept[name + key], there[key]) for key in ("weight", "bias"))
    tower = VisionTransformer(replace(build(clip).model.config.vision, post_norm="none"))
    trained = build(clip)
    trained.model.vision = tower
    export_llava.export(trained, tmp_path / "b")
    kept = read_tensors(tmp_path / "b" / "model.safetensors")
    assert (kept[name + "weight"] == 1).all() and (kept[name + "bias"] == 0).all()


def test_the_linear_projectors_second_layer_is_the_identity(clip, tmp_path):
    export_llava.export(build(clip, "linear"), tmp_path / "out")
    kept = read_tensors(tmp_path / "out" / "model.safetensors")
    assert torch.equal(kept["multi_modal_projector.linear_2.weight"], torch.eye(32))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["projector_hidden_act"] == "linear"
    assert "has no `linear`" in (tmp_path / "out" / "README.md").read_text("utf-8")


CONVERSATIONS = [
    [("user", (IMAGE, "\n问")), ("assistant", ("答。",)), ("user", ("再问",))],
    [("system", ("规则",)), ("user", ("先看\n", IMAGE))],
    [("user", ("a ", IMAGE, "\nb", IMAGE, "\nc"))],
    [("user", ("only text",))],
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_template_writes_what_we_write(clip, tmp_path_factory, conversation):
    folder = tmp_path_factory.getbasetemp() / "template"
    trained = build(clip)
    if not folder.exists():
        export_llava.export(trained, folder)
    turns = [Turn(role, parts) for role, parts in conversation]
    pictures = tuple(Path("x") for turn in turns for _ in range(turn.image_count))
    wanted = encode_prompt(turns, trained.tokenizer, 1, pictures).ids.tolist()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)

    def part(value):
        return {"type": "image"} if value is IMAGE else {"type": "text", "text": value}

    messages = [{"role": turn.role, "content": [part(value) for value in turn.parts]} for turn in turns]
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert theirs(text, add_special_tokens=False)["input_ids"] == wanted
    plain = [{"role": turn.role, "content": turn.text} for turn in turns]  # as tools that know LLaVA write it
    assert theirs.apply_chat_template(plain, tokenize=False, add_generation_prompt=True) == text


@needs_data
def test_minimind_vs_checkpoint_becomes_a_llava_by_the_command(tmp_path, capsys):
    parts = ["--vision", str(TINY / "clip"), "--tokenizer", str(TOKENIZER)]
    export_llava.main([str(TINY / "sft_vlm_64.pth"), str(tmp_path / "out"), *parts])
    assert "README.md in it says" in capsys.readouterr().out
    trained = load_trained(TINY / "sft_vlm_64.pth", *parts[1::2])
    check_same(trained, tmp_path / "out", tmp_path, image_id=6400)
    ids, _, _ = theirs(tmp_path / "out", [tmp_path / "0.png"], "a@b.cn 是谁的？")  # "@" is no picture any more
    assert ids.count(6400) == 196 and ids.count(34) == 1
    assert "id 34 (`@`) marks a picture's place" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_run_of_the_training_command_is_exported(clip, tiny, tmp_path, capsys):
    import train_pretrain

    flags = ["--data", write_jsonl(tmp_path, 12), "--images", tmp_path / "images", "--llm", tiny / "lm", *QUICK]
    flags += ["--vision", clip, "--projector", "mlp", "--out", tmp_path / "run", "--steps", 1, "--batch_size", 4]
    train_pretrain.main([str(flag) for flag in flags])
    assert guarded(lambda: export_llava.main([str(tmp_path / "run"), str(tmp_path / "out")])) == 0
    check_same(load_trained(tmp_path / "run"), tmp_path / "out", tmp_path)
    assert guarded(lambda: export_llava.main([str(tmp_path / "run"), str(tmp_path / "out")])) == 1
    assert "exists already and is not an empty folder" in capsys.readouterr().err


def test_what_llava_cannot_express_is_refused_and_nothing_is_written(clip, tiny_run, tmp_path, capsys):
    with pytest.raises(WeightsError, match="ldp pools them to a quarter.* --projector mlp"):
        export_llava.export(build(clip, "ldp"), tmp_path / "out")
    run = shutil.copytree(tiny_run, tmp_path / "run")  # with an encoder of train_vision.py's kind, and ldp
    assert guarded(lambda: export_llava.main([str(run), str(tmp_path / "out")])) == 1
    assert "encoder is CLIP's or SigLIP's; this model's has stem 'conv'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_half_precision_is_written_where_it_is_asked_for(clip, tmp_path):
    export_llava.export(build(clip), tmp_path / "out", torch.bfloat16)
    assert {x.dtype for x in read_tensors(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    model = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.bfloat16
