"""A trained model that is asked about pictures, and picture loaders that encode each picture once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset.bad_rows import BadRows
from dataset.batching import PictureLoader
from dataset.preprocess import preprocess
from dataset.record import Ask, Picture
from engine.arguments import UsageError
from engine.build import Trained
from engine.checkpoint import Run
from engine.dataloader import encode_pixels
from engine.inference import Answer, Decoding, answer

STAGES = ("sft3", "sft2", "sft1", "pretrain")  # the last first


@dataclass(frozen=True, eq=False)
class Looker:
    """A trained model and how it answers."""

    trained: Trained
    decoding: Decoding
    load: PictureLoader

    def say(
        self, asks: list[Ask], load: PictureLoader | None = None, bad: BadRows | None = None, title: str = "looking"
    ) -> list[Answer | None]:
        """As inference.answer(), with the pictures from `load` (default: the looker's own)."""
        model, tokenizer = self.trained.model, self.trained.tokenizer
        return answer(model, tokenizer, asks, load or self.load, self.decoding, bad, title)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (P, N, Dv) of pixels (P, 3, H, W), on the model's device."""
        device = next(self.trained.model.parameters()).device
        return encode_pixels(self.trained.encoder, pixels, device, self.decoding.dtype)


@dataclass(frozen=True, eq=False)
class Watched:
    """A picture loader that also measures how far each picture lies from the training pictures, if the run can tell."""

    looker: Looker
    seen: dict[Picture, tuple[float, str]] = field(default_factory=dict)  # distance, and a warning or ""

    def load(self, pictures: Sequence[Picture]) -> Mapping[str, torch.Tensor]:
        """The pictures' features, so that the encoder runs once for answers and distances; else what looker loads."""
        loaded, familiar = self.looker.load(pictures), self.looker.trained.familiar
        if familiar is None:
            return loaded
        features = self.looker.encode(loaded["pixels"])
        for picture, distance in zip(pictures, familiar.distances(features).tolist(), strict=True):
            self.seen[picture] = distance, familiar.note(distance)
        return {"features": features.float()}


def answer_all(looker: Looker, task, blank: PictureLoader | None = None, title: str = "answering") -> list[Answer]:
    """An answer to everything that a task asks, round after round; raises BadRow for what cannot be used.

    blank: a loader of the same image in place of every picture. With greedy decoding equal prompts about it are
    answered once.
    """
    once = blank is not None and not looker.decoding.temperature
    answers: list[Answer] = []
    while asks := task.asks([one.text for one in answers]):
        keys = [ask.turns if once else number for number, ask in enumerate(asks)]
        distinct = dict(zip(keys, asks, strict=True))
        said = dict(zip(distinct, looker.say(list(distinct.values()), blank, title=title), strict=True))
        answers += [made for key in keys if (made := said[key]) is not None]
    return answers


def remembering(looker: Looker) -> PictureLoader:
    """A loader of features that encodes each picture once: a scene is asked about a dozen times."""
    kept: dict[Picture, torch.Tensor] = {}

    def load(pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        new = [picture for picture in dict.fromkeys(pictures) if picture not in kept]
        if new:
            kept.update(zip(new, looker.encode(looker.load(new)["pixels"]), strict=True))
        return {"features": torch.stack([kept[picture] for picture in pictures])}

    return load


def one_image_loader(looker: Looker, image: Image.Image) -> PictureLoader:
    """A loader of the same image in place of every picture."""
    pixels = torch.from_numpy(preprocess(image, looker.trained.encoder.spec)[np.newaxis])
    features = looker.encode(pixels).float()
    return lambda pictures: {"features": features.expand(len(pictures), -1, -1)}


def finished_stages(folder: str, advice: str) -> list[Path]:
    """The finished runs of the stages in a folder, the last stage first; UsageError, with advice, if there is none."""
    stages = [Path(folder) / name for name in STAGES]
    finished = [path for path in stages if Run(path).is_finished()]
    if not finished:
        raise UsageError(
            f"no finished run among {', '.join(map(str, stages))}; train one (python train_sft.py --stage 3) or "
            f"{advice}"
        )
    return finished


def language_of(trained: Trained) -> str:
    """zh or en: what most of its texts were in."""
    return "en" if trained.settings.get("english", 0.0) > 0.5 else "zh"
