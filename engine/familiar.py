"""Whether a picture is like those that a model was trained on, told from a frozen encoder's features.

A model that has only seen drawings describes a photograph as fluently as a drawing, and wrongly. What gives it away
are the features: those of a photograph lie farther from all of training's than those of a new drawing do.

Features (N, Dv) are centred and projected to the directions in which training's patches vary most, each divided by
the fourth root of its variance, so that no direction counts for all and none for nothing. There two distances are
taken: of the picture's patches to the nearest of some thousand patches of training (the mean over patches), and of
its mean to the fifth nearest mean of some thousand training pictures, as directions (what is left of scale says
little). `distance` is their product over what is usual: 1 for the median training picture that the description was
not made of. Beyond what 99.9% of those reach a picture is unlike them.
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
from model.tensors import WeightsError, read_metadata, read_tensors, save_safetensors

FILE = "familiar.safetensors"  # in a run's folder
FORMAT = "glimpse-familiar-1"
PICTURES = 2560  # different training pictures that are looked at, at most
FEWEST = 500  # with fewer there is no telling what is usual
APART = 5  # every fifth of them is not described, but shows how far a new one lies
PATCHES = 8192
DIRECTIONS = 128
NEAREST = 5
USUAL = 0.999  # of the pictures kept apart lie within `limit`
AT_ONCE = 64  # pictures


@dataclass(frozen=True, eq=False)
class Familiar:
    """What training's pictures look like to the encoder; see distances()."""

    encoder: str  # its fingerprint
    centre: Tensor  # (Dv,)
    basis: Tensor  # (Dv, K)
    patches: Tensor  # (Q, K) of training
    pictures: Tensor  # (R, K) means of training pictures, each of length 1
    usual: float  # the product of the two distances that counts as 1
    limit: float  # the distance within which USUAL of training's pictures lie

    def distances(self, features: Tensor) -> Tensor:
        """(P,) the distance of each picture of features (P, N, Dv), on the CPU; 1 is a usual training picture."""
        return torch.cat([self._product(some) for some in features.split(AT_ONCE)]) / self.usual

    def _product(self, features: Tensor) -> Tensor:
        projected = (features.float().cpu() - self.centre) @ self.basis  # (P, N, K)
        patches = _nearest(projected.flatten(0, 1), self.patches, 1).view(projected.shape[:2]).mean(1)
        means = torch.nn.functional.normalize(projected.mean(1), dim=-1)
        return patches * _nearest(means, self.pictures, min(NEAREST, len(self.pictures)))

    def note(self, distance: float) -> str:
        """What to say of a picture at that distance: nothing where it is like training's."""
        if distance <= self.limit:
            return ""
        return (
            f"unlike the pictures it was trained on (distance {distance:.2f}, {USUAL:.1%} of training's within "
            f"{self.limit:.2f}): do not trust this description"
        )


def _nearest(points: Tensor, others: Tensor, which: int) -> Tensor:
    """(A,) the distance of each of points (A, K) to the which-th nearest of others (B, K)."""
    lengths = others.square().sum(1)
    found = []
    for some in points.split(1024):
        squared = some.square().sum(1, keepdim=True) + lengths - 2 * some @ others.T  # (a, B)
        nearest = squared.amin(1) if which == 1 else squared.kthvalue(which, dim=1).values
        found.append(nearest.clamp(min=0).sqrt())
    return torch.cat(found)


def describe(
    features: Iterable[Tensor], count: int, apart: Iterable[Tensor], encoder: str, seed: int = 0
) -> Familiar:  # fmt: skip
    """A description of `count` training pictures from chunks (P, N, Dv) of their features.

    apart: features of pictures that are not among these, which say what is usual. Nothing is drawn from torch's seed.
    """
    rng = np.random.default_rng((seed, 2))
    means, patches = [], []
    for some in features:
        some = some.float().cpu()
        means.append(some.mean(1))
        flat = some.flatten(0, 1)
        patches.append(flat[rng.permutation(len(flat))[: -(-PATCHES * len(some) // count)]])
    patch, mean = torch.cat(patches).double(), torch.cat(means).double()
    centre = patch.mean(0)
    variances, directions = torch.linalg.eigh((patch - centre).T @ (patch - centre) / len(patch))  # rising
    keep = min(DIRECTIONS, len(variances))
    variances, directions = variances[-keep:], directions[:, -keep:]
    least = max(float(variances[-1]), 1e-12) * 1e-4  # what training hardly varies in counts ten times more at most
    basis = (directions / variances.clamp(min=least) ** 0.25).contiguous()
    made = Familiar(
        encoder, centre.float(), basis.float(), ((patch - centre) @ basis).half().float(),
        torch.nn.functional.normalize((mean - centre) @ basis, dim=-1).half().float(), 1.0, 1.0,
    )  # fmt: skip
    products = torch.cat([made.distances(some) for some in apart]).double()
    usual = max(float(products.median()), 1e-12)
    limit = float(products.quantile(USUAL, interpolation="higher")) / usual * 1.0001  # not a matter of rounding
    return Familiar(encoder, made.centre, made.basis, made.patches, made.pictures, usual, limit)


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
    return describe(_features(described, load), len(described), _features(apart, load), encoder, seed)


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
    half = {"patches": familiar.patches.half(), "pictures": familiar.pictures.half()}
    whole = {"centre": familiar.centre, "basis": familiar.basis,
             "scale": torch.tensor([familiar.usual, familiar.limit], dtype=torch.float64)}  # fmt: skip
    save_safetensors(folder / FILE, half | whole, {"kind": FORMAT, "encoder": familiar.encoder})


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
    directions = shapes.get("basis", (0, 0))[-1]
    rows = {name: shapes.get(name, (0,))[0] for name in ("patches", "pictures")}
    expected = {"centre": (width,), "basis": (width, directions), "scale": (2,),
                **{name: (count, directions) for name, count in rows.items()}}  # fmt: skip
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    if shapes != expected or not all(rows.values()) or not finite or not bool((tensors["scale"] > 0).all()):
        found = f"{shapes}{'' if finite else ', not all finite'}"
        raise WeightsError(f"{path}: found {found}, expected {expected} and a scale above 0; {advice}")
    usual, limit = tensors["scale"].tolist()
    parts = (tensors[name].float() for name in ("centre", "basis", "patches", "pictures"))
    return Familiar(encoder, *parts, usual, limit)
