"""Batched inference: prompts sorted by length, greedy or sampled decoding, answers in the order of the prompts."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from dataset.atomic import replacing
from dataset.bad_rows import BadRow, BadRows
from dataset.batching import PictureLoader, Records, collate
from dataset.encoding import encode_prompt, split_answer
from dataset.pictures import open_picture
from dataset.record import Ask, Batch, Picture, Record
from engine.arguments import UsageError
from engine.checkpoint import Run
from engine.device import autocast
from engine.finite import ADVICE, NotFiniteError, first_not_finite, part_of
from model.checkpoints import write_json
from model.generation import check_sampling, generate
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer

SAMPLES = 8  # validation records that a finished run answers
SHOWN = 3
SHOWN_LENGTH = 160
THUMBNAIL = 336  # pixels of the longer side of a sample's picture
Samples = Sequence[tuple[dict, Sequence[Picture]]]  # prompt, reference and answer; their pictures


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int
    stopped: bool  # by an end token, not by the limit


@dataclass(frozen=True)
class Decoding:
    """Decoding settings; temperature 0 is greedy. UsageError for values out of range."""

    max_new_tokens: int = 256
    batch_size: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 42
    dtype: torch.dtype = torch.float32  # of matmuls
    min_new_tokens: int = 0

    def __post_init__(self):
        try:
            check_sampling(self.temperature, self.top_p, self.repetition_penalty)
        except ValueError as error:
            raise UsageError(f"--{error}") from error


def answer(
    model: VLM, tokenizer: Tokenizer, asks: Sequence[Ask], load: PictureLoader | None, decoding: Decoding,
    bad: BadRows | None = None, title: str = "answering", stream: Callable[[int, int], None] | None = None,
    image_tokens: int = 0,
) -> list[Answer | None]:  # fmt: skip
    """One answer per ask, in order, generated in batches of similar prompt length.

    None for an ask whose picture or prompt cannot be used, which is added to `bad` (the caller counts the rows seen).
    Without `bad` the first one raises its BadRow. UsageError where no position is left for a prompt. stream: as in
    model/generation.py; it takes the place of the progress bar. image_tokens: per picture, if not the projector's.
    """
    positions = model.config.lm.max_position_embeddings
    room = positions - decoding.max_new_tokens + 1  # what a prompt must stay below for the longest answer to fit
    if room <= 1:
        raise UsageError(
            f"--max_new_tokens {decoding.max_new_tokens}: the model has {positions} positions for prompt and answer "
            "together; ask for less"
        )
    prompts = {}
    for i, ask in enumerate(asks):
        try:
            prompts[i] = encode_prompt(
                ask.turns, tokenizer, image_tokens or model.image_tokens, ask.images, room, ask.id
            )
        except BadRow as error:
            if bad is None:
                raise
            bad.add(ask.id, error)
    answers: list[Answer | None] = [None] * len(asks)
    order = sorted(prompts, key=lambda i: len(prompts[i].ids))
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(decoding.seed) if decoding.temperature else None
    with tqdm(total=len(asks), desc=title, unit="answer", leave=False, disable=stream is not None) as bar:
        for start in range(0, len(order), decoding.batch_size):
            group = order[start : start + decoding.batch_size]
            named = {prompts[i].id: i for i in group}
            batch = collate([prompts[i] for i in group], tokenizer.pad_id, load, bad, left=True)
            if batch is not None:
                made = generate_batch(model, tokenizer, batch.to(device), decoding, generator, stream)
                for name, one in zip(batch.example_ids, made, strict=True):
                    answers[named[name]] = one
            bar.update(len(group))
    return answers


def generate_batch(
    model: VLM, tokenizer: Tokenizer, batch: Batch, decoding: Decoding,
    generator: torch.Generator | None = None, stream: Callable[[int, int], None] | None = None,
) -> list[Answer]:  # fmt: skip
    """One answer per row of a left-padded batch; NotFiniteError, naming the part of the model, where its output is not
    finite. stream: as in model/generation.py."""
    with autocast(batch.ids.device, decoding.dtype):
        try:
            made = generate(
                model, batch, max_new_tokens=decoding.max_new_tokens, end_id=tokenizer.end_ids,
                min_new_tokens=decoding.min_new_tokens, temperature=decoding.temperature, top_p=decoding.top_p,
                repetition_penalty=decoding.repetition_penalty, generator=generator, stream=stream,
            )  # fmt: skip
        except FloatingPointError as error:
            part = part_of(first_not_finite(model, lambda: model.logits(batch)) or "llm")
            raise NotFiniteError(f"{error}: the {part} is at fault; {ADVICE}") from error
    texts = (tokenizer.decode(ids).strip() for ids in made.ids)
    return [Answer(text, len(ids), end) for text, ids, end in zip(texts, made.ids, made.stopped, strict=True)]


def sample_records(rows: Iterable[int], records: Records) -> list[Record]:
    """The records in these rows, without those that cannot be read."""
    found = []
    for row in rows:
        with contextlib.suppress(BadRow):  # the run has reported it by then
            found.append(records[int(row)])
    return found


def write_samples(
    run: Run, model: VLM, tokenizer: Tokenizer, records: list[Record], load: PictureLoader, dtype: torch.dtype,
    image_tokens: int = 0,
) -> Samples:  # fmt: skip
    """Write the model's answers to some records, beside the references, to samples.json, and each one's first picture
    to samples/; print a few; return all, each with its pictures.

    A record whose picture cannot be read, which the run has reported by then, is left out.
    """
    parts = [split_answer(record) for record in records]
    asks = [Ask(turns, pictures, record.id) for record, (turns, pictures, _) in zip(records, parts, strict=True)]
    longest = min(256, model.config.lm.max_position_embeddings // 2)
    decoding = Decoding(longest, SAMPLES, dtype=dtype)
    answers = answer(model, tokenizer, asks, load, decoding, BadRows(1.0), image_tokens=image_tokens)
    shown = [
        ({"id": ask.id, "prompt": ask.turns[-1].text, "reference": reference, "answer": made.text}, ask.images)
        for ask, (*_, reference), made in zip(asks, parts, answers, strict=True)
        if made
    ]
    for number, (sample, pictures) in enumerate(shown):
        if pictures:
            sample["picture"] = f"samples/{number}.jpg"
            _write_thumbnail(run.path / sample["picture"], pictures[0])
    samples = [sample for sample, _ in shown]
    write_json(run.path / "samples.json", {"samples": samples})
    for sample in samples[:SHOWN]:
        print(f"  {sample['prompt'].strip()!r}")
        print(f"    reference: {sample['reference']}\n    model:     {sample['answer'][:SHOWN_LENGTH]}")
    return shown


def _write_thumbnail(path: Path, picture: Picture) -> None:
    image = open_picture(picture, THUMBNAIL)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=88)
    with replacing(path) as file:
        file.write(jpeg.getvalue())
