"""A packed language model is one for --llm, close to the run it was made of."""

from __future__ import annotations

import dataclasses

import torch
from tiny import QUICK, conversation, write_jsonl, write_language

import train_lm
from engine.build import get_tokenizer
from engine.command import guarded
from model.checkpoints import load_language
from tools import pack_language


def test_packed_weights_logits_tokenizer_and_log(tmp_path, capsys):
    texts = tuple({"conversations": conversation(f"{i}!", f"{i}?")} for i in range(40))
    start, data = write_language(tmp_path / "start"), write_jsonl(tmp_path, 0, texts)
    run, out = tmp_path / "lm", tmp_path / "packed"
    train_lm.main([str(x) for x in ("--llm", start, "--data", data, "--out", run, "--steps", 2, *QUICK)])
    pack_language.main([str(run), str(out)])
    assert "2 steps of training" in capsys.readouterr().out
    assert (out / "log.jsonl").read_bytes() == (run / "log.jsonl").read_bytes()
    assert get_tokenizer("", out).fingerprint == get_tokenizer("", run).fingerprint
    ours, packed = load_language(run), load_language(out)
    assert dataclasses.asdict(ours.config) == dataclasses.asdict(packed.config)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected, found = (model.logits(model(model.embed(ids))) for model in (ours, packed))
    assert torch.nn.functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0) > 0.999


def test_an_unfinished_run_is_refused(tmp_path, capsys):
    assert guarded(lambda: pack_language.main([str(tmp_path), str(tmp_path / "out")])) == 1
    assert "finished.json: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
