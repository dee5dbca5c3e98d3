"""What a model knows about a thing that it has just named: python -m tools.probe RUN [--attribute side|colour|column]

The model reads a caption of a scene up to the noun in the sentence about one of its things ("... 兔子"). A linear probe
then predicts the thing's side, colour or column from the residual stream at the noun, after each layer; and, without
a probe, the model's own next words are checked (teacher-forced: all before them is true). Accuracies are also given by
number of things in the scene, since with one there is nothing to look up. A language model (a run of train_lm.py) reads
word pictures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset.batching import PictureLoader, collate, pixel_loader
from dataset.encoding import encode_prompt
from dataset.picturebook.book import prompt_for
from dataset.picturebook.captions_zh import OPENINGS, SIDES, listing
from dataset.picturebook.facts import COLOURS, COLUMNS, KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import clear_side, in_sky
from dataset.picturebook.words import GRID, word_loader
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Batch, Example, Turn
from engine.build import get_tokenizer, load_trained
from engine.command import guarded
from engine.device import pick_device, prepare
from model.checkpoints import load_vlm
from model.vlm import VLM
from scoring.report import write_atomically
from tokenizer.tokenizer import Tokenizer

BATCH = 50
RIDGE = 1.0
COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Probed:
    """A caption that ends with a noun: its scene, the thing that the noun names, the label to predict."""

    scene: Scene
    thing: Thing
    label: int

    @property
    def things(self) -> int:
        return len(self.scene.things)


# attribute -> (whether a thing has it, its label, number of classes, text after the noun, each class's word)
ATTRIBUTES = {
    "side": (lambda t: clear_side(t) and not in_sky(t), lambda t: list(SIDES).index(t.side), len(SIDES), "在画面的",
             tuple(SIDES.values())),
    "colour": (lambda t: t.colour is not None and KINDS[t.kind].group != "person",
               lambda t: COLOUR_NAMES.index(t.colour), len(COLOURS), "是", tuple(c.zh for c in COLOURS.values())),
    "column": (lambda t: True, lambda t: t.column, COLUMNS, "", tuple(map(str, range(COLUMNS)))),
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run of train_lm.py, train_pretrain.py or train_sft.py, in Chinese")
    parser.add_argument("--attribute", choices=tuple(ATTRIBUTES), default="side", help="default: side")
    parser.add_argument("--n", type=int, default=600, help="scenes to fit on, half as many to score")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    args = parser.parse_args(argv)
    if args.n < 20:
        parser.error(f"--n {args.n}: expected 20 or more")
    device = pick_device(args.device)
    prepare(device)
    model, tokenizer, load, tokens = load_any(args.run)
    model.to(device)
    fit, test = (probed(split, count, args.attribute) for split, count in (("train", args.n), ("test", args.n // 2)))
    states = [hidden_states(model, tokenizer, load, tokens, some) for some in (fit, test)]  # each (layers + 1, rows, D)
    classes = ATTRIBUTES[args.attribute][2]
    labels = [torch.tensor([p.label for p in some]) for some in (fit, test)]
    layers = [accuracy(*labels, one, other, classes) for one, other in zip(*states, strict=True)]
    said = said_right(model, tokenizer, load, tokens, test, args.attribute)
    report = {
        "run": str(args.run), "attribute": args.attribute, "fit": len(fit), "scored": len(test),
        "chance": int(labels[1].bincount(minlength=classes).max()) / len(test),
        "by_layer": [by_things(test, right) for right in layers], "teacher_forced": by_things(test, said),
    }  # fmt: skip
    print(table(report))
    if args.json:
        write_atomically(Path(args.json), (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


def load_any(run: Path) -> tuple[VLM, Tokenizer, PictureLoader, int]:
    """(model, tokenizer, picture loader, tokens per picture); word pictures for a language model."""
    tokenizer = get_tokenizer("", run)
    model = load_vlm(run) if (run / "config.json").is_file() else None
    if model is not None and model.projector is None:
        return model.eval(), tokenizer, word_loader(tokenizer), GRID * GRID
    trained = load_trained(run)
    return trained.model, trained.tokenizer, pixel_loader(trained.encoder.spec), trained.model.image_tokens


def probed(split: str, count: int, attribute: str) -> list[Probed]:
    """One thing that has the attribute from each of the first `count` scenes of a split with such a thing."""
    has, label, *_ = ATTRIBUTES[attribute]
    found, index = [], 0
    while len(found) < count:
        scene = make_scene(split, index)
        index += 1
        things = [thing for thing in scene.things if has(thing)]
        if things:
            thing = random.Random(f"probe {scene.seed}").choice(things)
            found.append(Probed(scene, thing, label(thing)))
    return found


def prompts(
    tokenizer: Tokenizer, tokens: int, probed: Sequence[Probed], suffix: str = ""
) -> list[Example]:
    """The request, a true list of the scene's things, and the noun with a suffix."""
    made = []
    for number, one in enumerate(probed):
        place = PLACES[one.scene.place].zh
        text = OPENINGS[0].format(place, listing(list(one.scene.things))) + KINDS[one.thing.kind].zh + suffix
        turn = Turn("user", (IMAGE, "\n" + prompt_for("long")))
        asked = encode_prompt((turn,), tokenizer, tokens, (one.scene,), row_id=str(number))
        ids = torch.tensor([*asked.ids.tolist(), *tokenizer.encode(text)], dtype=torch.int32).numpy()
        mask = [*asked.image_mask.tolist(), *[False] * (len(ids) - len(asked.ids))]
        made.append(Example(ids, ids.copy(), torch.tensor(mask).numpy(), asked.images, str(number)))
    return made


@torch.no_grad()
def hidden_states(
    model: VLM, tokenizer: Tokenizer, load: PictureLoader, tokens: int, probed: Sequence[Probed]
) -> Tensor:
    """The residual stream at the noun's last token, before the first layer and after each: (layers + 1, rows, D)."""
    kept: list[list[Tensor]] = [[] for _ in range(len(model.llm.model.layers) + 1)]
    for batch in batches(tokenizer, load, prompts(tokenizer, tokens, probed)):
        batch = batch.to(next(model.parameters()).device)
        streams = residual_stream(model, batch)
        last = batch.attention_mask.sum(1) - 1
        rows = torch.arange(len(last), device=last.device)
        for layer, stream in zip(kept, streams, strict=True):
            layer.append(stream[rows, last].float().cpu())
    return torch.stack([torch.cat(layer) for layer in kept])


def residual_stream(model: VLM, batch: Batch) -> list[Tensor]:
    """The residual stream (B, T, D) before the first layer and after each."""
    streams: list[Tensor] = []

    def keep(module: nn.Module, given: tuple, out) -> None:
        if not streams:
            streams.append(given[0])
        streams.append(out[0] + out[1] if isinstance(out, tuple) else out)

    hooks = [layer.register_forward_hook(keep) for layer in model.llm.model.layers]
    try:
        model.logits(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return streams


def batches(tokenizer: Tokenizer, load: PictureLoader, examples: Sequence[Example]) -> list[Batch]:
    """Right-padded batches of the examples, in order."""
    groups = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
    return [collate(list(group), tokenizer.pad_id, load) for group in groups]


def accuracy(fit: Tensor, test: Tensor, fit_states: Tensor, test_states: Tensor, classes: int) -> Tensor:
    """(test rows,) bool: whether ridge regression to one-hot labels on standardised states picks the right class."""
    mean, std = fit_states.mean(0), fit_states.std(0) + 1e-6
    one, other = (torch.cat(((x - mean) / std, torch.ones(len(x), 1)), 1) for x in (fit_states, test_states))
    gram = one.T @ one + RIDGE * len(one) * torch.eye(one.shape[1])
    weights = torch.linalg.solve(gram, one.T @ F.one_hot(fit, classes).float())
    return (other @ weights).argmax(1) == test


@torch.no_grad()
def said_right(
    model: VLM, tokenizer: Tokenizer, load: PictureLoader, tokens: int, probed: Sequence[Probed], attribute: str
) -> Tensor:
    """(rows,) bool: whether the right one of the attribute's words has the highest logit after the noun."""
    *_, suffix, words = ATTRIBUTES[attribute]
    ids = torch.tensor([tokenizer.encode(word)[0] for word in words])
    right = []
    for batch in batches(tokenizer, load, prompts(tokenizer, tokens, probed, suffix)):
        batch = batch.to(next(model.parameters()).device)
        last = batch.attention_mask.sum(1) - 1
        logits = model.logits(batch)[torch.arange(len(last), device=last.device), last].cpu()
        right.append(logits[:, ids].argmax(1))
    return torch.cat(right) == torch.tensor([p.label for p in probed])


def by_things(probed: Sequence[Probed], right: Tensor) -> dict[str, float]:
    """Accuracy over all rows, and by the number of things in the scene."""
    groups = defaultdict(list)
    for one, good in zip(probed, right.tolist(), strict=True):
        groups["all"].append(good)
        groups[str(one.things)].append(good)
    return {name: sum(groups[name]) / len(groups[name]) for name in sorted(groups)}


def table(report: dict) -> str:
    """The figures as text: one line per layer, then what the model itself says."""
    names = sorted(report["teacher_forced"])
    title = f"{report['attribute']} at the noun: {report['run']}, {report['scored']} scenes, majority class"
    head = "  ".join([" " * 24, *(f"{name:>5}" for name in names)]) + "   (things)"
    lines = [f"{title} {report['chance']:.2f}", head]
    rows = [("before layer 1", report["by_layer"][0])]
    rows += [(f"after layer {n}", row) for n, row in enumerate(report["by_layer"][1:], 1)]
    rows.append(("said by the model", report["teacher_forced"]))
    for title, row in rows:
        lines.append(f"{title:<24}  " + "  ".join(f"{row.get(name, float('nan')):5.2f}" for name in names))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
