"""What both harnesses need: questions of text and pictures in, answers of a trained model out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from dataset.bad_rows import BadRows
from dataset.batching import collate, pixel_loader
from dataset.encoding import encode_record
from dataset.record import IGNORE, IMAGE, Ask, Picture, Record, Turn
from engine.build import load_trained
from engine.device import pick_device, pick_dtype
from engine.inference import Decoding
from engine.looker import Looker

Part = str | Path | bytes | Image.Image  # text, or a picture; a str is always text


class Answerer(Looker):
    """A trained model that answers questions."""

    def answer(self, questions: Sequence[Sequence[Part]], **decoding) -> list[str]:
        """One answer per question, in order, greedy by default (decoding: fields of Decoding to change).

        A question that is too long, or whose picture cannot be read, is answered with "", with a warning.
        """
        asks = [Ask((turn,), images, str(i)) for i, (turn, images) in enumerate(map(user_turn, questions))]
        bad = BadRows(1.0)
        bad.seen(len(asks))
        made = replace(self, decoding=replace(self.decoding, **decoding)).say(asks, bad=bad, title="answering")
        if bad.bad:
            warnings.warn(f"some questions have no answer.\n{bad.report()}", stacklevel=2)
        return ["" if one is None else one.text for one in made]

    @torch.no_grad()
    def continuation(self, question: Sequence[Part], text: str) -> tuple[float, bool]:
        """(mean cross entropy of `text` as the answer, end token included; whether greedy decoding would give it)."""
        turn, images = user_turn(question)
        model, tokenizer = self.trained.model, self.trained.tokenizer
        record = Record("0", images, (turn, Turn("assistant", (text,))))
        example = encode_record(record, tokenizer, model.image_tokens, model.config.lm.max_position_embeddings)
        batch = collate([example], tokenizer.pad_id, self.load).to(next(model.parameters()).device)
        labels, logits = batch.labels[0, 1:], model.logits(batch)[0, :-1].float()
        supervised = labels != IGNORE
        loss = torch.nn.functional.cross_entropy(logits[supervised], labels[supervised])
        return float(loss), bool((logits[supervised].argmax(-1) == labels[supervised]).all())


def load_answerer(
    weights: str, vision: str = "", tokenizer: str = "", device: str = "auto", dtype: str = "auto",
    max_new_tokens: int = 256, batch_size: int = 16,
) -> Answerer:  # fmt: skip
    """The model of a run, or of a MiniMind2-V .pth with its encoder and tokenizer named."""
    chosen = pick_device(device)
    matmul_dtype = pick_dtype(dtype, chosen)
    trained = load_trained(weights, vision, tokenizer, chosen, matmul_dtype)
    decoding = Decoding(int(max_new_tokens), int(batch_size), dtype=matmul_dtype)
    return Answerer(trained, decoding, pixel_loader(trained.encoder.spec))


def user_turn(question: Sequence[Part]) -> tuple[Turn, tuple[Picture, ...]]:
    """The user's turn and its pictures; text after a picture starts a new line, as in training. No text forges one."""
    parts: list = []
    images: list[Picture] = []
    for part in question:
        if isinstance(part, str):
            parts.append("\n" + part if parts and not part.startswith("\n") else part)
            continue
        parts.append(IMAGE)
        if isinstance(part, Image.Image):  # our loaders take files and encoded bytes
            file = io.BytesIO()
            part.save(file, "PNG")
            part = file.getvalue()
        images.append(part)
    return Turn("user", tuple(parts)), tuple(images)


def cut(text: str, until: Sequence[str]) -> str:
    """`text` up to the first stop string."""
    return text[: min((text.find(stop) for stop in until if stop and stop in text), default=len(text))]
