"""Out-of-distribution detection: is an image like those of training, by a frozen encoder's features?

A model that has only seen drawings describes a photograph as fluently as a drawing, and wrongly. What gives it away
are the features: those of a photograph lie farther from all of training's than those of a new drawing do.

Of features (N, Dv) the mean is taken, (Dv,), and its distance is Mahalanobis's: from the mean of training's, measured
in their own spread (Lee et al. 2018, arXiv 1807.03888, without classes), a hundredth of the mean variance added to
every direction's. `distance` counts in the median of training pictures that the description was not made of, which is
1. Beyond what 99.8% of those reach a picture is unlike them.
"""

from __future__ import annotations

from collections.abc import Iterable
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
PICTURES = 2560  # different training pictures that are looked at, at most
FEWEST = 500  # with fewer there is no telling what is usual
APART = 5  # every fifth of them is not described, but shows how far a new one lies
SHRINKAGE = 0.01  # of the mean variance
USUAL = 0.998  # of the pictures kept apart lie within `limit`
AT_ONCE = 64  # pictures


@dataclass(frozen=True, eq=False)
class Familiar:
    """Statistics of the training images' features; see distances()."""

    encoder: str  # its fingerprint
    centre: Tensor  # (Dv,) of the pictures' mean features
    whitening: Tensor  # (Dv, Dv): (x - centre) @ whitening has the Mahalanobis distance as its length
    usual: float  # the length that counts as 1
    limit: float  # the distance within which USUAL of training's pictures lie

    def distances(self, features: Tensor) -> Tensor:
        """(P,) the distance of each picture of features (P, N, Dv), on the CPU; 1 is a usual training picture."""
        return ((features.float().cpu().mean(1) - self.centre) @ self.whitening).norm(dim=1) / self.usual

    def note(self, distance: float) -> str:
        """What to say of a picture at that distance: nothing where it is like training's."""
        if distance <= self.limit:
            return ""
        return (
            f"unlike the pictures it was trained on (distance {distance:.2f}, {USUAL:.1%} of training's within "
            f"{self.limit:.2f}): do not trust this description"
        )


def describe(features: Iterable[Tensor], apart: Iterable[Tensor], encoder: str) -> Familiar:
    """Statistics of training images from chunks (P, N, Dv) of their features.

    apart: features of pictures that are not among these, which say what is usual. Nothing is drawn at random.
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


def describe_training(
    train: Examples, val: Examples | None, load: PictureLoader, encoder: str, seed: int
) -> Familiar | None:
    """The description of what was trained on, from a sample of its pictures; None with fewer than FEWEST.

    load: a FeatureCache's, which has the features at hand. Pictures that cannot be read are passed over.
    """
    order = np.random.default_rng((seed, 3)).permutation(len(train))
    chosen = _different(train, order, PICTURES, set())
    if len(chosen) < FEWEST:
        return None
    pictures = list(chosen.values())
    described = [picture for i, picture in enumerate(pictures) if i % APART]
    apart = pictures[::APART]
    if val is not None:
        apart += _different(val, range(len(val)), PICTURES // APART, set(chosen)).values()
    return describe(_features(described, load), _features(apart, load), encoder)


def _different(examples: Examples, order: Iterable[int], most: int, without: set[str]) -> dict[str, Picture]:
    """At most so many different pictures of the examples in that order, by their key."""
    found: dict[str, Picture] = {}
    for number in order:
        for picture in examples.records[int(examples.rows[int(number)])].images:
            try:
                key = picture_key(picture)
            except BadRow:
                continue
            if key not in without:
                found[key] = picture
        if len(found) >= most:
            break
    return found


def _features(pictures: list[Picture], load: PictureLoader) -> Iterable[Tensor]:
    for start in range(0, len(pictures), AT_ONCE):
        some = []
        for picture in pictures[start : start + AT_ONCE]:
            try:
                some.append(load([picture])["features"])
            except BadRow:
                continue
        if some:
            yield torch.cat(some)


def save_familiar(folder: Path, familiar: Familiar) -> None:
    """Keep a description in a run's folder, atomically."""
    scale = torch.tensor([familiar.usual, familiar.limit], dtype=torch.float64)
    tensors = {"centre": familiar.centre, "whitening": familiar.whitening, "scale": scale}
    save_safetensors(folder / FILE, tensors, {"kind": FORMAT, "encoder": familiar.encoder})


def load_familiar(folder: Path, encoder: str, width: int) -> Familiar | None:
    """The description in a run's folder, None where there is none (a run of few pictures, or of an older version).

    encoder, width: the fingerprint and Dv that it must be of. WeightsError for a file that is torn or another's.
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
