"""Hostile files for every reader: data, pictures, weights, configs, tokenizers, chat."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dataset.check
import dataset.clean
import eval_vlm
import train_lm
import train_pretrain
import train_sft
from tokenizer import train_tokenizer
from tools.torture import mutate, seeds
from tools.torture.child import Ending, watch

CPU = ["--device", "cpu", "--dtype", "float32"]
DRY = ["--dry-run", *CPU, "--num_workers", "0", "--max_bad", "1"]


@dataclass(frozen=True)
class Case:
    """A hostile input in a folder and the command that meets it."""

    kind: str
    run: Callable[[], object]
    typed: bytes | None = None


class Fuzzer:
    """Makes case number n of a seed, always the same, in a fresh folder, and watches it."""

    def __init__(self, work: Path, seed: int):
        self.work, self.seed = work, seed
        self.valid = work / "valid"
        self.files = seeds.write_data(self.valid / "data")
        self.pictures = seeds.pictures()
        seeds.write_models(self.valid)
        self.run_files = self._train()
        self.canary = work / "outside.png"
        self.canary.write_bytes(seeds.picture())
        configs = ("lm/config.json", "lm/tokenizer.json", "lm/tokenizer_config.json", "vision/config.json",
                   "vision/preprocessor_config.json")  # fmt: skip
        self.kinds = [
            *(f"data {kind}" for kind in self.files),
            *(f"picture {kind}" for kind in self.pictures),
            "parquet types",
            "weights safetensors",
            "weights pth",
            *(f"config {name}" for name in configs),
            *(f"run {name}" for name in self.run_files),
            "chat typed",
            "text for a tokenizer",
        ]

    def _train(self) -> list[str]:
        """A tiny run in `valid`, made here, which imports all that the cases need; returns the names of its files."""
        data = ["--data", str(self.files["jsonl"]), "--images", str(self.valid / "data" / "images")]
        parts = ["--llm", str(self.valid / "lm"), "--vision", str(self.valid / "vision")]
        run = self.valid / "run"
        quick = ["--out", str(run), "--steps", "2", "--batch_size", "4", "--num_workers", "0", *CPU]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            train_pretrain.main([*data, *parts, *quick])
        return sorted(file.name for file in run.iterdir() if file.is_file() and file.name != "lock")

    def run(self, number: int) -> tuple[Case, Path, Ending]:
        """Case `number`: what it was, where its files are, how it ended."""
        rng = random.Random(f"{self.seed} {number}")
        folder = self.work / f"case-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        case = self._make(self.kinds[number % len(self.kinds)], folder, rng)
        return case, folder, watch(case.run, folder, self.canary, case.typed)

    def _make(self, kind: str, folder: Path, rng: random.Random) -> Case:
        family, _, name = kind.partition(" ")
        if family == "data":
            return self._data(kind, name, folder, rng)
        if family == "picture":
            return self._picture(kind, name, folder, rng)
        if kind == "parquet types":
            return self._parquet(kind, folder, rng)
        if family == "run":
            return self._run_file(kind, name, folder, rng)
        if family == "text":
            text = folder / "text.txt"
            text.write_bytes(mutate.bytes_of("一只红色的猫坐在草地上。\nA red cat sits there.\n".encode() * 3, rng))
            return Case(kind, lambda: train_tokenizer.main(["--text", str(text), "--out", str(folder / "tokenizer")]))
        if family == "chat":
            look = ["--weights", str(self.valid / "run"), "--image", str(self.valid / "data" / "images" / "0.png")]
            typed = mutate.bytes_of("什么颜色？\nIs there a dog?\n".encode() * rng.choice((1, 5)), rng)
            if rng.random() < 0.1:
                typed += b"a" * 800_000
            return Case(kind, lambda: eval_vlm.main([*look, "--chat", "--max_new_tokens", "4", *CPU]), typed)
        return self._model(kind, name, folder, rng)

    def _data(self, kind: str, name: str, folder: Path, rng: random.Random) -> Case:
        (folder / "images").symlink_to(self.valid / "data" / "images")
        for file in self.files.values():
            shutil.copy(file, folder / file.name)
        victim = folder / self.files[name].name
        content = victim.read_bytes()
        if name == "jsonl" and rng.random() < 0.7:
            lines = content.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = mutate.text_of(json.loads(lines[at]), rng)
            content = b"\n".join(lines)
        elif name.endswith("json") and rng.random() < 0.7:
            content = mutate.text_of(json.loads(content), rng)
        else:
            content = mutate.bytes_of(content, rng)
        victim.write_bytes(content)
        data = folder / "factory.json" if name == "dataset_info.json" else victim
        return Case(kind, self._reader(data, folder, rng))

    def _reader(self, data: Path, folder: Path, rng: random.Random) -> Callable[[], object]:
        """One of the commands that read data."""
        images = ["--images", str(folder / "images")]
        models = ["--llm", str(self.valid / "lm"), "--vision", str(self.valid / "vision"), "--out", str(folder / "run")]
        suffix = ".jsonl" if data.name.startswith("captions.") else data.suffix
        return rng.choice((
            lambda: dataset.check.main([str(data), *images, "--page", str(folder / "page.html")]),
            lambda: dataset.clean.main([str(data), str(folder / f"o{suffix}"), *images, "--dedup", "exact,near"]),
            lambda: train_pretrain.main(["--data", str(data), *images, *models, *DRY]),
        ))  # fmt: skip

    def _picture(self, kind: str, name: str, folder: Path, rng: random.Random) -> Case:
        (folder / "images").mkdir()
        (folder / "images" / "0.png").write_bytes(mutate.bytes_of(self.pictures[name], rng))
        data = folder / "data.jsonl"
        data.write_text(json.dumps({"image": "0.png", "conversations": seeds.turns(0)}) + "\n", encoding="utf-8")
        weights = ["--weights", str(self.valid / "run"), "--max_new_tokens", "4", *CPU]
        if rng.random() < 0.2:
            return Case(kind, lambda: eval_vlm.main([*weights, "--images", str(folder / "images")]))
        return Case(kind, self._reader(data, folder, rng))

    def _run_file(self, kind: str, name: str, folder: Path, rng: random.Random) -> Case:
        """A file of a finished run, met by evaluation, by the next stage, or by the same command again."""
        run = folder / "run"
        shutil.copytree(self.valid / "run", run)
        content = (run / name).read_bytes()
        if name.endswith(".json") and rng.random() < 0.8:
            content = mutate.text_of(json.loads(content), rng)
        else:
            content = mutate.bytes_of(content, rng)
        (run / name).write_bytes(content)
        data = ["--data", str(self.files["jsonl"]), "--images", str(self.valid / "data" / "images")]
        picture = ["--image", str(self.valid / "data" / "images" / "0.png"), "--page", str(folder / "page.html")]
        return Case(kind, rng.choice((
            lambda: eval_vlm.main(["--weights", str(run), *picture, "--max_new_tokens", "4", *CPU]),
            lambda: train_sft.main([*data, "--from", str(run), "--stage", "1", "--out", str(folder / "sft"), *DRY]),
        )))  # fmt: skip

    def _parquet(self, kind: str, folder: Path, rng: random.Random) -> Case:
        """Columns of types that no data set should have, beside good ones or in place of them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        (folder / "images").symlink_to(self.valid / "data" / "images")
        table = pq.read_table(self.files["parquet"])
        rows = table.num_rows
        odd = rng.choice((
            pa.array([2**62] * rows, pa.timestamp("ns")), pa.array([2**62] * rows, pa.duration("ns")),
            pa.array([-(2**62)] * rows, pa.timestamp("us")), pa.array([1] * rows, pa.timestamp("s", tz="+99:59")),
            pa.array([1] * rows, pa.timestamp("s", tz="Nowhere/None")),
            pa.array([b"\xff\xfe"] * rows, pa.large_binary()),
            pa.array([2**30] * rows, pa.date32()), pa.array([None] * rows, pa.null()),
            pa.array([[[1]]] * rows), pa.array([{"bytes": b"x", "path": None}] * rows),
            pa.array(["\x00"] * rows, pa.dictionary(pa.int32(), pa.string())), pa.array([1.5] * rows, pa.float16()),
            pa.StringArray.from_buffers(rows, *pa.array([b"\xff\xed\xa0"] * rows, pa.binary()).buffers()[1:]),
        ))  # fmt: skip
        name = rng.choice(("conversations", "image_bytes", "label", "created"))
        at = table.schema.get_field_index(name)
        table = table.append_column(name, odd) if at < 0 else table.set_column(at, name, odd)
        data = folder / "data.parquet"
        pq.write_table(table, data)
        return Case(kind, self._reader(data, folder, rng))

    def _model(self, kind: str, name: str, folder: Path, rng: random.Random) -> Case:
        for part in ("lm", "vision", "pickled"):
            shutil.copytree(self.valid / part, folder / part)
        if name == "safetensors":
            victim = folder / rng.choice(("lm", "vision")) / "model.safetensors"
            content = victim.read_bytes()
            edge = 8 + int.from_bytes(content[:8], "little")
            whole = rng.random() < 0.3  # else only the header, which decides most
            content = mutate.bytes_of(content, rng) if whole else mutate.bytes_of(content[:edge], rng) + content[edge:]
        elif name == "pth":
            victim = folder / "pickled" / "lm_32.pth"
            content = mutate.bytes_of(victim.read_bytes(), rng)
        else:
            victim = folder / name
            content = mutate.text_of(json.loads(victim.read_bytes()), rng)
        victim.write_bytes(content)
        if victim.is_relative_to(folder / "vision"):
            flags = ["--vision", str(folder / "vision"), "--llm", str(self.valid / "lm")]
            main = train_pretrain.main
        else:
            flags = ["--llm", str(victim if name == "pth" else folder / "lm")]
            main = train_lm.main
        texts = ["--data", str(self.files["alpaca.json"]), "--out", str(folder / "run")]
        return Case(kind, lambda: main([*texts, *flags, *DRY]))
