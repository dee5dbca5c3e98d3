"""The models that the page offers: loaded when they are first asked for, and what to ask them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dataset.batching import pixel_loader
from dataset.picturebook.book import prompt_for
from dataset.picturebook.telling import LENGTHS
from engine.build import Trained, load_trained
from engine.inference import Decoding
from engine.looker import Looker, finished_stages, language_of
from eval_vlm import default_prompt
from model.checkpoints import read_json

QUESTIONS = {
    "en": ("What is in the picture?", "What colour is it?", "Where is it?"),
    "zh": ("图中有什么？", "它是什么颜色的？", "它在哪里？"),
}
PROMPTS = 6  # suggested, at most


@dataclass(frozen=True)
class Models:
    """Trained models by the names that the page shows."""

    paths: dict[str, Path]
    device: torch.device
    dtype: torch.dtype
    fast: str = "on"
    vision: str = ""
    tokenizer: str = ""
    loaded: dict[str, Looker] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str) -> Looker:
        """The model of that name; what load_trained raises. KeyError for a name that is not offered."""
        path = self.paths[name]
        with self._lock:
            if name not in self.loaded:
                trained = load_trained(path, self.vision, self.tokenizer, self.device, self.dtype, self.fast)
                trained.model.requires_grad_(False)
                load = pixel_loader(trained.encoder.spec)
                self.loaded[name] = Looker(trained, Decoding(dtype=self.dtype), load)
            return self.loaded[name]


def named(runs: list[str], folder: str) -> dict[str, Path]:
    """The runs by name, by default the finished stages in `folder`, the last first; UsageError if there is none."""
    if runs:
        return {run: Path(run) for run in runs}
    finished = finished_stages(folder, "name its folder: python -m tools.web RUN")
    return {str(path): path for path in finished}



def prompts_of(trained: Trained) -> list[str]:
    """What to ask the model, the default first: what its data asks, or the picture book's prompts and questions."""
    language = language_of(trained)
    first = default_prompt(trained, language)
    file = trained.path / "samples.json"
    if trained.settings.get("data") and file.is_file():
        more = [sample["prompt"].replace("<image>", "").strip() for sample in read_json(file)["samples"]]
    else:
        more = [prompt_for(length, language) for length in LENGTHS[1:]] + list(QUESTIONS[language])
    return list(dict.fromkeys([first, *more]))[:PROMPTS]
