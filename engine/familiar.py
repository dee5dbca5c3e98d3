"""Out-of-distribution detection: is an image like those of training, judged by a frozen encoder's features?

A model that has only seen drawings describes a photograph as fluently as a drawing, and wrongly; but the photograph's
features lie farther from the training images' than a new drawing's do.

The features (N, Dv) of an image are averaged to (Dv,). Its distance is the Mahalanobis distance from the mean of the
training images (Lee et al. 2018, arXiv 1807.03888, without classes), with a hundredth of the mean variance added to
the covariance's diagonal. The unit is the median distance of held-out training images, and an image is unlike them
beyond the distance that 99.8% of those stay within.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.bad_rows import BadRow
from dataset.batching import Examples, PictureLoader
from dataset.pictures import picture_key
from dataset.record import Picture
from model.checkpoints.files import WeightsError, read_metadata, read_tensors, save_safetensors

FILE = "familiar.safetensors"  # in a run's folder
FORMAT = "glimpse-familiar-2"
PICTURES = 2560  # distinct training pictures to use, at most
FEWEST = 500  # with fewer the statistics say too little
APART = 5  # every fifth is held out, to measure the distances of new pictures
SHRINKAGE = 0.01  # of the mean variance
USUAL = 0.998  # share of the held-out pictures within `limit`
AT_ONCE = 64  # pictures


@dataclass(frozen=True, eq=False)
class Familiar:
    """Statistics of the training images' features; see distances()."""

    encoder: str  # its fingerprint
    centre: Tensor  # (Dv,) the mean of the pictures' averaged features
    whitening: Tensor  # (Dv, Dv): (x - centre) @ whitening has the Mahalanobis distance as its length
    usual: float  # the length that is a distance of 1
    limit: float  # the distance that a share USUAL of the training pictures stays within

    def distances(self, features: Tensor) -> Tensor:
        """Distances (P,) of pictures with features (P, N, Dv), on the CPU; a typical training picture has 1."""
        return ((features.float().cpu().mean(1) - self.centre) @ self.whitening).norm(dim=1) / self.usual

    def note(self, distance: float) -> str:
        """A warning about a picture at that distance; empty if it is like the training pictures."""
        if distance <= self.limit:
            return ""
        return (
            f"unlike the pictures it was trained on (distance {distance:.2f}, {USUAL:.1%} of training's within "
            f"{self.limit:.2f}): do not trust this description"
        )


def describe(features: Iterable[Tensor], apart: Iterable[Tensor], encoder: str) -> Familiar:
    """Statistics of training images from chunks (P, N, Dv) of their features; deterministic.

    apart: features of other pictures, held out to set the unit and the limit.
    """
    means = torch.cat([some.float().cpu().mean(1) for some in features]).double()  # (R, Dv)
    centre = means.mean(0)
    covariance = (means - centre).T @ (means - centre) / len(means)
    added = SHRINKAGE * covariance.diagonal().mean().clamp(min=1e-12)
    precision = torch.linalg.inv(covariance + added * torch.eye(len(centre), dtype=torch.float64))
    made = Familiar(encoder, centre.float(), torch.linalg.cholesky(precision).float(), 1.0, 1.0)
    lengths = torch.cat([made.distances(some) for some in apart]).double()
    usual = max(float(lengths.median()), 1e-12)
    return Familiar(encoder, made.centre, made.whitening, usual, float(lengths.quantile(USUAL)) / usual)


def describe_training(examples: list[Examples], load: PictureLoader, encoder: str, seed: int) -> Familiar | None:
    """The statistics of the training pictures, from a sample of them; None if there are fewer than FEWEST.

    examples: those of training, then those of validation if there are any. load: that of a FeatureCache, which has the
    features. Pictures that cannot be read are skipped.
    """
    train, *validation = examples
    order = np.random.default_rng((seed, 3)).permutation(len(train))
    chosen = _different(train, order, PICTURES, set())
    if len(chosen) < FEWEST:
        return None
    pictures = list(chosen.values())
    described = [picture for i, picture in enumerate(pictures) if i % APART]
    apart = pictures[::APART]
    for val in validation:
        apart += _different(val, range(len(val)), PICTURES // APART, set(chosen)).values()
    return describe(_features(described, load), _features(apart, load), encoder)


def _different(examples: Examples, order: Iterable[int], most: int, without: Container[str]) -> dict[str, Picture]:
    """At most so many distinct pictures of the examples in that order, by their keys."""
    found: dict[str, Picture] = {}
    for number in order:
        for picture in examples.pictures([number]):
            with contextlib.suppress(BadRow):
                key = picture_key(picture)
                if key not in without:
                    found[key] = picture
        if len(found) >= most:
            break
    return found


def _features(pictures: list[Picture], load: PictureLoader) -> Iterable[Tensor]:
    for start in range(0, len(pictures), AT_ONCE):
        some = []
        for picture in pictures[start : start + AT_ONCE]:
            with contextlib.suppress(BadRow):
                some.append(load([picture])["features"])
        if some:
            yield torch.cat(some)


def save_familiar(folder: Path, familiar: Familiar) -> None:
    """Save the statistics in a run's folder, atomically."""
    scale = torch.tensor([familiar.usual, familiar.limit], dtype=torch.float64)
    tensors = {"centre": familiar.centre, "whitening": familiar.whitening, "scale": scale}
    save_safetensors(folder / FILE, tensors, {"kind": FORMAT, "encoder": familiar.encoder})


def load_familiar(folder: Path, encoder: str, width: int) -> Familiar | None:
    """The statistics in a run's folder; None if it has none (a run on few pictures, or of an older version).

    encoder, width: the encoder's fingerprint and Dv. WeightsError for a damaged file, or one of another encoder.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    found, tensors = read_metadata(path), read_tensors(path)
    advice = "delete it to go without, or train the run again"
    if found.get("kind") != FORMAT:
        raise WeightsError(f"{path}: no description of training pictures that this version reads; {advice}")
    if found.get("encoder") != encoder:
        raise WeightsError(f"{path}: describes features of the encoder {found.get('encoder')}, not {encoder}; {advice}")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {"centre": (width,), "whitening": (width, width), "scale": (2,)}
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    if shapes != expected or not finite or not bool((tensors["scale"] > 0).all()):
        held = f"{shapes}{'' if finite else ', not all finite'}"
        raise WeightsError(f"{path}: found {held}, expected {expected} and a scale above 0; {advice}")
    usual, limit = tensors["scale"].tolist()
    return Familiar(encoder, tensors["centre"].float(), tensors["whitening"].float(), usual, limit)
