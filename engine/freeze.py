"""Trainable and frozen parameters by module prefixes: set, counted, and checked after training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from engine.arguments import TrainArguments, UsageError
from model.checkpoints.files import checksum
from model.lora import add_lora, is_adapter

LORA = "lora"  # the prefix of all adapters


class FreezeError(ValueError):
    """A prefix that matches nothing, or a frozen weight that changed."""


def resolve(prefix: str, layers: int) -> str:
    """The module path of a --train prefix: llm.layers.0 is llm.model.layers.0, llm.layers.-1 the last layer.

    The number of a layer that does not exist is left as it is, and matches nothing.
    """
    parts = prefix.strip().split(".")
    if parts[:2] == ["llm", "layers"]:
        parts.insert(1, "model")
    if parts[:3] == ["llm", "model", "layers"] and len(parts) > 3 and parts[3] in map(str, range(-layers, 0)):
        parts[3] = str(layers + int(parts[3]))
    return ".".join(parts)


def weights_under(model: nn.Module, prefixes: Iterable[str], flag: str) -> dict[str, set[str]]:
    """The names of the weights under each prefix, in which * is any one name; FreezeError where there are none."""
    names = [name for name, _ in model.named_parameters()]
    layers = 1 + max((int(n.split(".")[3]) for n in names if n.startswith("llm.model.layers.")), default=-1)
    found = {}
    for prefix in prefixes:
        path = resolve(prefix, layers)
        below = re.compile(re.escape(path).replace(r"\*", "[^.]+") + r"(\.|$)")
        is_under = is_adapter if path == LORA else below.match
        found[prefix] = set(filter(is_under, names))
        if not found[prefix]:
            modules = sorted({name.split(".")[0] for name in names})
            raise FreezeError(
                f"{flag} {prefix}: no weight is named {path!r} or lies below it. The model has "
                f"{', '.join(modules)}; a layer of the language model is llm.layers.0 to llm.layers.{layers - 1}"
            )
    return found


def set_trainable(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Make exactly the parameters under these module prefixes trainable; FreezeError where one matches nothing."""
    trained = {name for names in weights_under(model, prefixes, "--train").values() for name in names}
    bases = {f"{name.rpartition('.')[0]}.base." for name, _ in model.named_parameters() if is_adapter(name)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
        if parameter.requires_grad and name.startswith(tuple(bases)):
            raise FreezeError(
                f"--train {','.join(prefixes)}: {name} has an adapter, which learns in its place; leave out lora, or "
                "the prefix that this weight is under"
            )


def add_adapters(args: TrainArguments, model: nn.Module) -> None:
    """Add LoRA adapters to the linear layers of the language model that --lora_targets names."""
    targets = tuple(target.strip() for target in args.lora_targets.split(","))
    generator = torch.Generator().manual_seed(args.seed)
    try:
        add_lora(model.get_submodule("llm"), targets, args.lora_rank, args.lora_alpha, generator)
    except ValueError as error:
        raise UsageError(f"--lora_targets {args.lora_targets}: {error}") from error


def peak_rates(model: nn.Module, default: float, rates: dict[str, float]) -> dict[str, float]:
    """Each trainable parameter's peak rate: its longest prefix's, else the default; FreezeError for an idle prefix."""
    found = weights_under(model, rates, "--learning_rates")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for prefix, names in found.items():
        if names.isdisjoint(trained):
            raise FreezeError(f"--learning_rates {prefix}: nothing under it trains; add it to --train, or leave it out")
    narrowest = sorted(rates, key=lambda prefix: (prefix != LORA, len(found[prefix]), -prefix.count(".")))
    return {name: next((rates[p] for p in narrowest if name in found[p]), default) for name in trained}


def rate_table(model: nn.Module, default: float, rates: dict[str, float]) -> str:
    """How many parameters of each top-level module train at which peak rate, a line each."""
    counts: Counter[tuple[str, float]] = Counter()
    for name, rate in peak_rates(model, default, rates).items():
        counts[name.split(".")[0], rate] += model.get_parameter(name).numel()
    return "\n".join(f"{part:<12}{count:>14,}  at a peak rate of {rate:g}" for (part, rate), count in counts.items())


def count_parameters(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Trainable and frozen parameters of each top-level module, tied ones counted once."""
    counts = {}
    for part, module in model.named_children():
        trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
        counts[part] = trainable, sum(p.numel() for p in module.parameters()) - trainable
    return counts


def parameter_table(model: nn.Module) -> str:
    """Trainable and frozen parameters, a line per module; the total without the encoder is what papers report."""
    counts = count_parameters(model)
    without = [count for part, count in counts.items() if part != "vision"]
    lines = [f"{'module':<12}{'trainable':>14}{'frozen':>14}{'total':>14}"]
    lines += [f"{part:<12}{count[0]:>14,}{count[1]:>14,}{sum(count):>14,}" for part, count in counts.items()]
    for title, some in (("without encoder", without), ("all", list(counts.values()))):
        trainable, frozen = (sum(numbers) for numbers in zip(*some, strict=True))
        lines.append(f"{title:<16}{trainable:>10,}{frozen:>14,}{trainable + frozen:>14,}")
    return "\n".join(lines)


def frozen_sums(model: nn.Module) -> dict[str, int]:
    """A checksum of every frozen parameter, to find one that changed."""
    frozen = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if not p.requires_grad}
    return {name: checksum(weight) for name, weight in frozen.items()}


def check_frozen(model: nn.Module, before: dict[str, int]) -> None:
    """Raise FreezeError where a frozen parameter differs from `before`, an earlier frozen_sums()."""
    changed = [name for name, bits in frozen_sums(model).items() if before.get(name, bits) != bits]
    if changed:
        raise FreezeError(f"{len(changed)} frozen weights changed in training, as {changed[0]}; do not use this run")
