"""A trained model that looks at pictures: loaders that compute features once, and answers round after round."""

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
from engine.build import Trained
from engine.dataloader import encode_pixels
from engine.inference import Answer, Decoding, answer


@dataclass(frozen=True, eq=False)
class Looker:
    """A trained model and how it answers."""

    trained: Trained
    decoding: Decoding
    load: PictureLoader

    def say(
        self, asks: list[Ask], load: PictureLoader | None = None, bad: BadRows | None = None, title: str = "looking"
    ) -> list[Answer | None]:
        """An answer for each of asks, in order; None where `bad` took its picture or prompt."""
        model, tokenizer = self.trained.model, self.trained.tokenizer
        return answer(model, tokenizer, asks, load or self.load, self.decoding, bad, title)

    def say_all(self, asks: list[Ask], load: PictureLoader | None, title: str) -> list[Answer]:
        """An answer for each of asks; the first picture or prompt that cannot be used raises its BadRow."""
        return [one for one in self.say(asks, load, title=title) if one is not None]


@dataclass(frozen=True, eq=False)
class Watched:
    """A picture loader that notes how far each picture lies from training's, where the run can tell."""

    looker: Looker
    distances: dict[Picture, float] = field(default_factory=dict)  # of the pictures loaded so far

    def load(self, pictures: Sequence[Picture]) -> Mapping[str, torch.Tensor]:
        """The pictures' features, so that the encoder runs once for answers and distances; else what looker loads."""
        loaded, trained = self.looker.load(pictures), self.looker.trained
        if trained.familiar is None:
            return loaded
        device = next(trained.model.parameters()).device
        features = encode_pixels(trained.encoder, loaded["pixels"], device, self.looker.decoding.dtype)
        self.distances.update(zip(pictures, trained.familiar.distances(features).tolist(), strict=True))
        return {"features": features.float()}

    def note(self, file: Path) -> str:
        """What to say of a picture that is unlike training's; nothing of others, and of all where nothing is known."""
        familiar = self.looker.trained.familiar
        return familiar.note(self.distances[file]) if familiar and file in self.distances else ""

    def fields(self, file: Path) -> dict:
        """What captions.json holds of a loaded picture."""
        if file not in self.distances:
            return {}
        return {"distance": round(self.distances[file], 4), "familiar": not self.note(file)}


def answer_all(looker: Looker, task, blank: PictureLoader | None = None, title: str = "answering") -> list[Answer]:
    """An answer to everything that a task asks, round after round.

    blank: what loads one and the same picture for all, in place of their own. Without chance in the decoding what is
    asked of it in the same words is then answered once.
    """
    answers: list[Answer] = []
    while asks := task.asks([one.text for one in answers]):
        if blank is None or looker.decoding.temperature:
            answers += looker.say_all(asks, blank, title)
            continue
        once = {ask.turns: ask for ask in asks}
        said = dict(zip(once, looker.say_all(list(once.values()), blank, title), strict=True))
        answers += [said[ask.turns] for ask in asks]
    return answers


def remembering(looker: Looker) -> PictureLoader:
    """Loads features, each picture's computed once: a scene is asked about a dozen times."""
    kept: dict[Picture, torch.Tensor] = {}
    device = next(looker.trained.model.parameters()).device

    def load(pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        new = [picture for picture in dict.fromkeys(pictures) if picture not in kept]
        if new:
            pixels = looker.load(new)["pixels"]
            made = encode_pixels(looker.trained.encoder, pixels, device, looker.decoding.dtype)
            kept.update(zip(new, made, strict=True))
        return {"features": torch.stack([kept[picture] for picture in pictures])}

    return load


def one_image_loader(looker: Looker, image: Image.Image) -> PictureLoader:
    """Loads the same image in place of every picture."""
    pixels = torch.from_numpy(preprocess(image, looker.trained.encoder.spec)[np.newaxis])
    device = next(looker.trained.model.parameters()).device
    features = encode_pixels(looker.trained.encoder, pixels, device, looker.decoding.dtype).float()
    return lambda pictures: {"features": features.expand(len(pictures), -1, -1)}
