"""What pretraining and SFT share: a VLM, records with pictures, features of a frozen encoder, samples at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

from dataset.bad_rows import BadRows
from dataset.batching import PictureLoader
from dataset.encoding import encode_record, split_answer
from dataset.features import FeatureCache
from dataset.record import Record
from engine import distributed
from engine.arguments import Stage
from engine.build import Encoder
from engine.checkpoint import Run
from engine.data import Data
from engine.device import keep_in
from engine.familiar import describe_training, save_familiar
from engine.feed import Feed, feature_loader, make_examples, pixel_loader
from engine.inference import Decoding, answer
from engine.training import Machine, run_stage
from model.checkpoints import fingerprint, save_vlm, write_json
from model.vlm import VLM
from scoring.tasks import Ask
from tokenizer.tokenizer import Tokenizer

SAMPLES = 8
SHOWN = 3
SHOWN_LENGTH = 160


def train_vlm(
    stage: Stage, model: VLM, encoder: Encoder, tokenizer: Tokenizer, data: Data, trained: tuple[str, ...],
    here: Machine, begin: Callable[[PictureLoader], None] | None = None,
) -> Run | None:  # fmt: skip
    """Train `model` on the data as the stage says and keep it; None for a dry run.

    begin: what is done to the model before that, given what loads features; done again when a run goes on.
    """
    longest = min(stage.max_seq_len, model.config.lm.max_position_embeddings)
    encode = partial(encode_record, tokenizer=tokenizer, image_tokens=model.image_tokens, max_seq_len=longest)
    examples = make_examples(data.train, encode, data.bad, "samples")
    val = make_examples(data.val, encode, data.bad, "validation") if len(data.val) else None
    sees = any(prefix.strip().split(".")[0] == "vision" for prefix in trained)
    facts = {
        "tokenizer": tokenizer.fingerprint,
        "start": fingerprint(model),
        "vision": {"folder": str(Path(encoder.folder).resolve()) if encoder.folder else "",
                   "fingerprint": encoder.fingerprint, "feature_layer": encoder.module.config.feature_layer},
    }  # fmt: skip
    if not sees:
        keep_in(here.dtype, encoder.module)
    if stage.dry_run or sees:
        load = pixel_loader(encoder.spec)
    else:
        every = [examples] + ([val] if val else [])
        count = stage.scenes + len(data.val) if not stage.data else sum(map(len, every))
        with distributed.main_first():
            load = feature_loader(
                encoder, lambda: chain.from_iterable(e.pictures() for e in every), count,
                Path(stage.out).parent / "cache", stage.cache_gb, here.device, here.dtype, stage.num_workers,
            )  # fmt: skip
    cached = isinstance(getattr(load, "__self__", None), FeatureCache)
    workers = stage.num_workers if not cached else 0
    if begin and not stage.dry_run:
        begin(load)
    feed, val_feed = (
        Feed(some, stage.batch_size, stage.seed, tokenizer.pad_id, load, data.bad, workers, stage.token_budget)
        if some else None
        for some in (examples, val)
    )

    def save(folder: Path) -> None:
        save_vlm(folder, model, with_vision=sees)
        if sees:
            write_json(folder / "preprocessor_config.json", encoder.spec.to_settings())
        tokenizer.save(folder)
        if cached:  # else the features changed all along, or have to be computed again, which may take minutes
            familiar = describe_training(examples, val, load, encoder.fingerprint, stage.seed)
            if familiar:
                save_familiar(folder, familiar)

    def show(run: Run) -> None:
        records = [data.val[int(row)] for row in val.rows[:SAMPLES]] if val else []
        write_samples(run, model, tokenizer, records, load, here)

    return run_stage(stage, model, trained, feed, val_feed, facts, here, save, show=show)


def write_samples(run: Run, model: VLM, tokenizer: Tokenizer, records: list[Record], load, here: Machine) -> None:
    """What the model answers to the records, beside what they say, in samples.json; a few are printed.

    A record whose picture cannot be read, which has been reported by then, is left out.
    """
    asks, references = [], []
    for record in records:
        turns, pictures, reference = split_answer(record)
        asks.append(Ask(turns, pictures, record.id))
        references.append(reference)
    longest = min(256, model.config.lm.max_position_embeddings // 2)
    decoding = Decoding(longest, batch_size=SAMPLES, dtype=here.dtype)
    answers = answer(model, tokenizer, asks, load, decoding, BadRows(1.0))
    samples = [
        {"id": ask.id, "prompt": ask.turns[-1].text, "reference": reference, "answer": made.text}
        for ask, reference, made in zip(asks, references, answers, strict=True)
        if made
    ]
    write_json(run.path / "samples.json", {"samples": samples})
    for sample in samples[:SHOWN]:
        print(f"  {sample['prompt'].strip()!r}")
        print(f"    reference: {sample['reference']}\n    model:     {sample['answer'][:SHOWN_LENGTH]}")
