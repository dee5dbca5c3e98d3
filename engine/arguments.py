"""The flags of the training commands: one frozen dataclass, of whose fields each command declares those it has."""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass, field

import torch

from model.config import PROJECTORS


def flag(default, help: str, **extra):
    """A field that is also a command-line flag: --name and --na-me."""
    return field(default=default, metadata={"help": help, **extra})


@dataclass(frozen=True)
class TrainArguments:
    """What a training run does. Two runs with equal arguments on equal data are equal, on CPU bit for bit."""

    # where it comes from and goes to
    out: str = flag("", "the run's folder (default: the command's name in --runs)")
    runs: str = flag("out", "folder of the default runs, each of which starts from the one before")
    from_run: str = flag("", "start from this run's folder", flag="from")
    # data: the picture book unless a file is given
    data: str = flag("", "train on this file, or these: FILE[:SHARE],FILE[:SHARE]; JSONL, JSON, parquet or tar "
                         "(default: the picture book)")  # fmt: skip
    images: str = flag("", "folder of the pictures that --data names, or one for each file with commas between")
    val_data: str = flag("", "validate on this file (default: a part of --data that is not trained on)")
    max_bad: float = flag(0.01, "stop when more than this share of rows is bad")
    samples: int = flag(0, "train on at most so many rows an epoch, chosen at random (0: all)")
    scenes: int = flag(10_000, "pictures of the picture book to train on")
    english: float = flag(0.0, "share of English in the picture book's texts; the rest is Chinese")
    # parts
    vision: str = flag("", "encoder: a CLIP, SigLIP or InternViT folder, or a train_vision.py run (default: ours)")
    feature_layer: int = flag(0, "hidden state of the encoder that is taken: -1 the last, -2 the one before, as LLaVA "
                                 "(0: what its folder says, else -1)")  # fmt: skip
    llm: str = flag("", "language model: a run's, Llama's or Qwen2's folder, .pth, .safetensors or 'random'")
    init: str = flag("normal", "how random weights of the language model begin: normal, or so that heads match like "
                               "with like", choices=("normal", "matching"))  # fmt: skip
    tokenizer: str = flag("", "tokenizer folder (default: that of the run it starts from, else the one shipped)")
    projector: str = flag("ldp", "how features become tokens", choices=PROJECTORS)
    train: str = flag("", "comma-separated module prefixes that train, as projector,llm.layers.-1 or projector,lora")
    lora_rank: int = flag(8, "rank of the language model's adapters, which --train lora trains")
    lora_alpha: float = flag(16.0, "their strength: what they add is multiplied by alpha / rank")
    lora_targets: str = flag("q_proj,k_proj,v_proj,o_proj", "the linear layers that get one, by their names")
    cell_steps: int = flag(0, "steps in which the projector first learns the words of each cell of a scene, without "
                              "the language model (picture book only; 0: none)")  # fmt: skip
    # optimisation
    epochs: int = flag(1, "passes over the data")
    steps: int = flag(0, "optimizer steps in place of --epochs (0: as --epochs says)")
    batch_size: int = flag(32, "samples a step (a micro-batch when accumulating)")
    token_budget: int = flag(0, "tokens a micro-batch, padding included, in place of --batch_size (0: as that says)")
    accumulation_steps: int = flag(1, "micro-batches a step")
    learning_rate: float = flag(1e-3, "peak of the schedule: linear warm-up, then half a cosine")
    learning_rates: str = flag("", "peaks of single parts, as projector=1e-3,llm=1e-4; the longest prefix counts")
    min_lr_ratio: float = flag(0.1, "where the cosine ends, as a share of the peak")
    warmup_ratio: float = flag(0.05, "share of the steps that warm up")
    optimizer: str = flag("muon", "muon learns from fewer tokens, adamw takes less time a step",
                          choices=("muon", "adamw"))  # fmt: skip
    weight_decay: float = flag(0.05, "of matrices only")
    grad_clip: float = flag(1.0, "largest norm of the gradient (0: no clipping)")
    max_seq_len: int = flag(512, "longest sample in tokens, image tokens included; text beyond it is cut")
    # the encoder that train_vision.py makes
    image_size: int = flag(128, "pixels a side of what the encoder sees")
    patch_size: int = flag(16, "pixels a side of a patch, a power of two")
    hidden_size: int = flag(256, "the encoder's width, a multiple of 64")
    layers: int = flag(6, "the encoder's depth")
    augment: str = flag("none", "anew at each step: some pictures in gray, some in gray or in other colours, or all "
                                "shifted, or shifted and mirrored",
                        choices=("none", "gray", "colours", "shift", "shift-flip"))  # fmt: skip
    # curriculum (SFT)
    stage: int = flag(0, "stage of the curriculum", choices=(1, 2, 3))
    fit: str = flag("cut", "answers over the stage's bound: cut at the last sentence that fits, or dropped",
                    choices=("cut", "drop"))  # fmt: skip
    # which step is kept
    keep: str = flag("last", "the weights after the last step, or those of the lowest validation loss",
                     choices=("last", "best"))  # fmt: skip
    patience: int = flag(0, "stop after so many validations that brought no lower loss (0: never)")
    # the run
    seed: int = flag(42, "decides every random choice")
    save_interval: int = flag(200, "steps between saves of the training state")
    eval_interval: int = flag(200, "steps between validations")
    log_interval: int = flag(10, "steps between lines of the log")
    num_workers: int = flag(2, "processes that draw or decode pictures")
    cache_gb: float = flag(8.0, "disk for the frozen encoder's features (0: no cache)")
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps")
    gradient_checkpointing: bool = flag(False, "compute the language model's layers twice and keep less in memory")
    fsdp: bool = flag(False, "under torchrun: divide weights, gradients and optimizer state among the processes, for a "
                             "model that one GPU cannot train")  # fmt: skip
    dtype: str = flag("auto", "of matrix products", choices=("auto", "float32", "bfloat16"))
    fast: str = flag("on", "the fused passes of model/fast, or the plain model", choices=("on", "off"))
    use_wandb: bool = flag(False, "log to Weights & Biases too (WANDB_MODE=offline works)")
    wandb_project: str = flag("Glimpse", "its project")
    dry_run: bool = flag(False, "check data, print parameters, samples, tokens, steps and memory, and stop")


# The flags that every command has; each adds its own.
SHARED = (
    "out", "runs", "data", "val_data", "max_bad", "samples", "scenes", "english", "tokenizer", "epochs", "steps",
    "batch_size", "token_budget", "accumulation_steps", "learning_rate", "learning_rates", "min_lr_ratio",
    "warmup_ratio", "optimizer", "weight_decay", "grad_clip", "keep", "patience", "seed", "save_interval",
    "eval_interval", "log_interval", "num_workers", "device", "dtype", "fast", "use_wandb", "wandb_project", "dry_run",
)  # fmt: skip
# Settings that do not change what is learned: a run may be resumed under others.
COSMETIC = ("save_interval", "eval_interval", "log_interval", "num_workers", "cache_gb", "device", "fast",
            "gradient_checkpointing", "fsdp", "use_wandb", "wandb_project", "dry_run", "out", "runs")  # fmt: skip
# Settings that a run may lack because it was made before there were any; it then counts as made with their defaults.
ADDED = ("token_budget", "learning_rates", "lora_rank", "lora_alpha", "lora_targets", "keep", "patience",
         "feature_layer", "init", "cell_steps")  # fmt: skip


class UsageError(ValueError):
    """A command that cannot be done as given; the text says what was found, what was expected, what to do."""


def parse(
    default: TrainArguments, argv: list[str] | None, flags: tuple[str, ...] = (), description: str = ""
) -> TrainArguments:
    """`default` with the flags of argv; a command has the SHARED ones and `flags`. Exits on a wrong flag."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for item in dataclasses.fields(default):
        if item.name not in SHARED + flags:
            continue
        value = getattr(default, item.name)
        name = item.metadata.get("flag", item.name)
        names = list(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))
        help = item.metadata["help"].replace("%", "%%")
        if isinstance(value, bool):
            parser.add_argument(*names, dest=item.name, action="store_true", default=value, help=help)
            continue
        shown = f" (default: {value})" if value not in ("", 0) else ""
        choices = item.metadata.get("choices")
        metavar = None if choices else {int: "N", float: "X", str: "TEXT"}[type(value)]
        parser.add_argument(
            *names, dest=item.name, type=type(value), default=value, help=help + shown, choices=choices, metavar=metavar
        )
    args = TrainArguments(**{**dataclasses.asdict(default), **vars(parser.parse_args(argv))})
    problem = check(args)
    if problem:
        parser.error(problem)
    return args


def rates_of(text: str) -> dict[str, float]:
    """Prefix and peak rate of --learning_rates; ValueError says what is wrong with the text."""
    rates: dict[str, float] = {}
    for entry in text.split(",") if text else ():
        prefix, _, number = (part.strip() for part in entry.partition("="))
        try:
            rate = float(number)
        except ValueError:
            rate = math.nan
        if not prefix or not 0 < rate < math.inf:
            raise ValueError(f"--learning_rates {text}: found {entry!r}, expected a prefix and a rate, as llm=1e-4")
        if prefix in rates:
            raise ValueError(f"--learning_rates {text}: {prefix} stands there twice; give it one rate")
        rates[prefix] = rate
    return rates


def check(args: TrainArguments) -> str:
    """What is wrong with the arguments' numbers, or an empty string."""
    try:
        rates_of(args.learning_rates)
    except ValueError as error:
        return str(error)
    for item in dataclasses.fields(args):
        value = getattr(args, item.name)
        if isinstance(value, float) and not math.isfinite(value):
            return f"--{item.name} {value}: expected a number"
    positive = ("epochs", "batch_size", "accumulation_steps", "save_interval", "eval_interval", "log_interval",
                "lora_rank", "image_size", "patch_size", "hidden_size", "layers")  # fmt: skip
    for name in positive:
        if getattr(args, name) < 1:
            return f"--{name} {getattr(args, name)}: expected 1 or more"
    for name in ("learning_rate", "lora_alpha", "max_seq_len", "scenes"):
        if getattr(args, name) <= 0:
            return f"--{name} {getattr(args, name)}: expected more than 0"
    for name in ("max_bad", "warmup_ratio", "min_lr_ratio", "english"):
        if not 0 <= getattr(args, name) <= 1:
            return f"--{name} {getattr(args, name)}: expected a share from 0 to 1"
    for name in ("steps", "samples", "token_budget", "weight_decay", "grad_clip", "num_workers", "cache_gb", "seed",
                 "patience", "cell_steps"):  # fmt: skip
        if getattr(args, name) < 0:
            return f"--{name} {getattr(args, name)}: expected 0 or more"
    if args.images and not args.data:
        return "--images names the folder of --data's pictures, but there is no --data"
    if args.val_data and not args.data:
        return "--val_data is what a training on --data is validated on, but there is no --data"
    if args.image_size % args.patch_size or args.patch_size & (args.patch_size - 1):
        return f"--image_size {args.image_size} --patch_size {args.patch_size}: expected a multiple of a power of two"
    if args.hidden_size % 64:
        return f"--hidden_size {args.hidden_size}: expected a multiple of 64, the width of a head"
    return ""


def placed(args: TrainArguments, name: str) -> TrainArguments:
    """The arguments with the run's folder: --out, or `name` in --runs."""
    return dataclasses.replace(args, out=args.out or f"{args.runs}/{name}")


def with_projector_rate(args: TrainArguments, default: TrainArguments, rate: float) -> TrainArguments:
    """The arguments with a peak rate of the projector's own, unless data, parts or rates were given."""
    given = args.data or args.train or args.vision or args.learning_rates or args.learning_rate != default.learning_rate
    return args if given else dataclasses.replace(args, learning_rates=f"projector={rate}")


def passed_on(args: TrainArguments) -> list[str]:
    """The flags that a command shares with one that it runs first."""
    names = ("runs", "english", "seed", "device", "dtype", "fast")
    return [text for name in names for text in (f"--{name}", str(getattr(args, name)))]


def settings(args: TrainArguments) -> dict:
    """What decides the outcome of a run, as JSON values."""
    return {name: value for name, value in dataclasses.asdict(args).items() if name not in COSMETIC}


@dataclass(frozen=True)
class Plan:
    """The numbers that the training loop follows."""

    steps: int
    learning_rate: float
    min_lr_ratio: float
    warmup: int  # steps
    weight_decay: float
    grad_clip: float  # 0: none
    save_interval: int
    eval_interval: int
    log_interval: int
    dtype: torch.dtype  # of matrix products
    optimizer: str = "adamw"
    learning_rates: dict[str, float] = field(default_factory=dict)  # peaks of the parts under these prefixes
    keep_best: bool = False  # end with the weights of the lowest validation loss, not the last ones
    patience: int = 0  # validations without a lower loss before it stops; 0: never
