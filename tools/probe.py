"""What a model knows about a thing that it has just named: python -m tools.probe RUN [--attribute side|colour|column]

The model reads a caption of a scene up to the noun in the sentence about one of its things ("... 兔子"). A linear probe
then predicts the thing's side, colour or column from the residual stream at the noun, after each layer; and, without
a probe, the model's own next words are checked (teacher-forced: all before them is true). Accuracies are also given by
number of things in the scene, since with one there is nothing to look up. A language model (a run of train_lm.py) reads
word pictures.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset.atomic import encoded, replacing
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
from engine.console import Parser
from engine.device import pick_device, prepare
from engine.plugin import load_plugin
from model.checkpoints import load_vlm
from model.vlm import VLM
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


# attribute -> (whether a thing has it, its label, number of classes, text after the noun, each class's word)
ATTRIBUTES = {
    "side": (lambda t: clear_side(t) and not in_sky(t), lambda t: list(SIDES).index(t.side), len(SIDES), "在画面的",
             tuple(SIDES.values())),
    "colour": (lambda t: t.colour is not None and KINDS[t.kind].group != "person",
               lambda t: COLOUR_NAMES.index(t.colour), len(COLOURS), "是", tuple(c.zh for c in COLOURS.values())),
    "column": (lambda t: True, lambda t: t.column, COLUMNS, "", tuple(map(str, range(COLUMNS)))),
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="a run of train_lm.py, train_pretrain.py or train_sft.py, in Chinese")
    parser.add_argument("--attribute", choices=tuple(ATTRIBUTES), default="side", help="default: side")
    parser.add_argument("--n", type=int, default=600, help="scenes to fit on, half as many to score")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--plugin", default="", help="the file that registers the run's projector, if it is your own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    args = parser.parse_args(argv)
    if args.n < 20:
        parser.error(f"--n {args.n}: expected 20 or more")
    device = pick_device(args.device)
    prepare(device)
    load_plugin(args.plugin)
    probe = load_any(args.run)
    probe.model.to(device)
    *_, classes, suffix, words = ATTRIBUTES[args.attribute]
    fit, test = (probed(split, count, args.attribute) for split, count in (("train", args.n), ("test", args.n // 2)))
    labels = [torch.tensor([one.label for one in some]) for some in (fit, test)]
    states = [probe.at_the_end(some)[0] for some in (fit, test)]
    layers = [accuracy(*labels, one, other, classes) for one, other in zip(*states, strict=True)]
    firsts = torch.tensor([probe.tokenizer.encode(word)[0] for word in words])
    said = probe.at_the_end(test, suffix)[1][:, firsts].argmax(1) == labels[1]
    report = {
        "run": str(args.run), "attribute": args.attribute, "fit": len(fit), "scored": len(test),
        "chance": int(labels[1].bincount(minlength=classes).max()) / len(test),
        "by_layer": [by_things(test, right) for right in layers], "teacher_forced": by_things(test, said),
    }  # fmt: skip
    print(table(report))
    if args.json:
        with replacing(Path(args.json)) as file:
            file.write(encoded(json.dumps(report, indent=2, ensure_ascii=False) + "\n"))


@dataclass(frozen=True)
class Probe:
    """A model that reads captions up to a noun, and how pictures get into it."""

    model: VLM
    tokenizer: Tokenizer
    load: PictureLoader
    image_tokens: int

    @torch.no_grad()
    def at_the_end(self, probed: Sequence[Probed], suffix: str = "") -> tuple[Tensor, Tensor]:
        """The residual stream and the logits at the last token of each prompt, (layers + 1, rows, D) and (rows, V)."""
        examples = prompts(self.tokenizer, self.image_tokens, probed, suffix)
        states, logits = [], []
        for start in range(0, len(examples), BATCH):
            batch = collate(examples[start : start + BATCH], self.tokenizer.pad_id, self.load)
            batch = batch.to(next(self.model.parameters()).device)
            last = batch.attention_mask.sum(1) - 1
            rows = torch.arange(len(last), device=last.device)
            streams, scores = residual_stream(self.model, batch)
            states.append(torch.stack([stream[rows, last].float().cpu() for stream in streams]))
            logits.append(scores[rows, last].cpu())
        return torch.cat(states, dim=1), torch.cat(logits)


def load_any(run: Path) -> Probe:
    """The probe of a run; word pictures for a language model."""
    model = load_vlm(run) if (run / "config.json").is_file() else None
    if model is not None and model.projector is None:
        tokenizer = get_tokenizer("", run)
        return Probe(model.eval(), tokenizer, word_loader(tokenizer), GRID * GRID)
    trained = load_trained(run)
    return Probe(trained.model, trained.tokenizer, pixel_loader(trained.encoder.spec), trained.model.image_tokens)


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


def prompts(tokenizer: Tokenizer, tokens: int, probed: Sequence[Probed], suffix: str = "") -> list[Example]:
    """The request, a true list of the scene's things, and the noun with a suffix."""
    made = []
    for number, one in enumerate(probed):
        place = PLACES[one.scene.place].zh
        text = OPENINGS[0].format(place, listing(list(one.scene.things))) + KINDS[one.thing.kind].zh + suffix
        turn = Turn("user", (IMAGE, "\n" + prompt_for("long")))
        asked = encode_prompt((turn,), tokenizer, tokens, (one.scene,), row_id=str(number))
        ids = np.array([*asked.ids, *tokenizer.encode(text)], np.int32)
        mask = np.pad(asked.image_mask, (0, len(ids) - len(asked.ids)))
        made.append(Example(ids, ids.copy(), mask, asked.images, str(number)))
    return made


def residual_stream(model: VLM, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """The residual stream (B, T, D) before the first layer and after each, and the logits (B, T, V)."""
    streams: list[Tensor] = []

    def keep(module: nn.Module, given: tuple, out) -> None:
        if not streams:
            streams.append(given[0])
        streams.append(out[0] + out[1] if isinstance(out, tuple) else out)

    hooks = [layer.register_forward_hook(keep) for layer in model.llm.model.layers]
    try:
        return streams, model.logits(batch)
    finally:
        for hook in hooks:
            hook.remove()


def accuracy(fit: Tensor, test: Tensor, fit_states: Tensor, test_states: Tensor, classes: int) -> Tensor:
    """(test rows,) bool: whether ridge regression to one-hot labels on standardised states picks the right class."""
    mean, std = fit_states.mean(0), fit_states.std(0) + 1e-6
    one, other = (torch.cat(((x - mean) / std, torch.ones(len(x), 1)), 1) for x in (fit_states, test_states))
    gram = one.T @ one + RIDGE * len(one) * torch.eye(one.shape[1])
    weights = torch.linalg.solve(gram, one.T @ F.one_hot(fit, classes).float())
    return (other @ weights).argmax(1) == test


def by_things(probed: Sequence[Probed], right: Tensor) -> dict[str, float]:
    """Accuracy over all rows, and by the number of things in the scene."""
    groups = defaultdict(list)
    for one, good in zip(probed, right.tolist(), strict=True):
        groups["all"].append(good)
        groups[str(len(one.scene.things))].append(good)
    return {name: sum(groups[name]) / len(groups[name]) for name in sorted(groups)}


def table(report: dict) -> str:
    """The figures as text: one line per layer, then what the model itself says."""
    names = sorted(report["teacher_forced"])
    title = f"{report['attribute']} at the noun: {report['run']}, {report['scored']} scenes, majority class"
    head = "  ".join([" " * 24, *(f"{name:>5}" for name in names)]) + "   (things)"
    lines = [f"{title} {report['chance']:.2f}", head]
    layers = range(1, len(report["by_layer"]))
    titles = ["before layer 1", *(f"after layer {layer}" for layer in layers), "said by the model"]
    for title, row in zip(titles, [*report["by_layer"], report["teacher_forced"]], strict=True):
        lines.append(f"{title:<24}  " + "  ".join(f"{row.get(name, float('nan')):5.2f}" for name in names))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
