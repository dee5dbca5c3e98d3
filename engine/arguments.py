"""The flags of the training commands: one frozen dataclass, from which each command takes the fields that it has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from model.config import PROJECTORS

AT_LEAST_1, AT_LEAST_0, ABOVE_0, SHARE = "1 or more", "0 or more", "more than 0", "a share from 0 to 1"
BELOW_1 = "0 or more and less than 1"
RANGES: dict[str, Callable[[float], bool]] = {
    AT_LEAST_1: lambda value: value >= 1, AT_LEAST_0: lambda value: value >= 0, ABOVE_0: lambda value: value > 0,
    SHARE: lambda value: 0 <= value <= 1, BELOW_1: lambda value: 0 <= value < 1,
}  # fmt: skip


def flag(default, help: str, range: str = "", **extra):
    """A field that is also a command-line flag. range: a key of RANGES, for numbers; group: of it and what follows."""
    return field(default=default, metadata={"help": help, "range": range, **extra})


@dataclass(frozen=True)
class TrainArguments:
    """Everything that defines a training run: the same arguments and data give the same weights, on CPU bit for bit."""

    recipe: str = flag("", "a TOML with the flags of each command, or its name in recipes/; flags given override it",
                       metavar="FILE", group="folders")  # fmt: skip
    out: str = flag("", "folder of this run (default: the command's name in --runs)", metavar="DIR")
    runs: str = flag("out", "folder of the default runs, each of which starts from the one before", metavar="DIR")
    from_run: str = flag("", "start from this run's folder", flag="from", metavar="RUN")
    data: str = flag("", "JSONL, JSON, parquet, tar or captions: FILE[@SUBSET][:SHARE],... (default: the picture book)",
                     metavar="FILE", group="data")  # fmt: skip
    images: str = flag("", "folder of the pictures that --data names, or one for each file, comma-separated",
                       metavar="DIR")  # fmt: skip
    val_data: str = flag("", "validate on this file (default: a held-out part of --data)", metavar="FILE")
    max_bad: float = flag(0.01, "stop when more than this share of rows is bad", SHARE)
    samples: int = flag(0, "train on at most so many rows per epoch, chosen at random (0: all)", AT_LEAST_0)
    scenes: int = flag(10_000, "pictures of the picture book to train on", ABOVE_0)
    english: float = flag(0.0, "share of English in the picture book's texts; the rest is Chinese", SHARE)
    doubt: float = flag(0.0, "share of things in word pictures that could be of two kinds, colours or numbers", SHARE)
    augment: str = flag("none", "pictures changed anew at each step: some gray, channels permuted too, all shifted, "
                        "mirrored too; cropped, mirrored, recoloured and partly erased",
                        choices=("none", "gray", "colours", "shift", "shift-flip", "crop"))  # fmt: skip
    vision: str = flag("", "encoder: a CLIP, SigLIP or InternViT folder, or a train_vision.py run (default: ours)",
                       metavar="DIR", group="model")  # fmt: skip
    feature_layer: int = flag(0, "the encoder's hidden state: -1 the last, -2 as LLaVA (0: what its folder says, or -2 "
        "where LLaVA needs it: SigLIP with --projector linear or mlp)")  # fmt: skip
    llm: str = flag("", "language model: a folder of a run, Llama or Qwen2, .pth, .safetensors, random or random:4x256",
                    metavar="MODEL")  # fmt: skip
    init: str = flag("normal", "how a random language model starts (model/init.py)", choices=("normal", "matching"))
    tokenizer: str = flag("", "tokenizer folder (default: that of the run it starts from, else the one that ships)",
                          metavar="DIR")  # fmt: skip
    projector: str = flag("ldp", "the map from image features to tokens; --plugin adds your own", choices=PROJECTORS)
    plugin: str = flag("", "a Python file that registers a projector of your own (docs/tutorial.md)", metavar="FILE")
    train: str = flag("", "prefixes of the modules to train, as projector,llm.layers.-1, llm.layers.*.mlp or lora",
                      metavar="PREFIXES")  # fmt: skip
    lora_rank: int = flag(8, "rank of the language model's LoRA adapters, which --train lora trains", AT_LEAST_1)
    lora_alpha: float = flag(16.0, "scale of the adapters: their output is multiplied by alpha / rank", ABOVE_0)
    lora_targets: str = flag("q_proj,k_proj,v_proj,o_proj", "names of the linear layers that get an adapter")
    cell_steps: int = flag(0, "warm-up of the projector on the words of each cell, in steps (picture book)", AT_LEAST_0)
    epochs: int = flag(1, "passes over the data", AT_LEAST_1, group="optimisation")
    steps: int = flag(0, "optimizer steps, in place of --epochs (0: use that)", AT_LEAST_0)
    batch_size: int = flag(32, "samples per step (per micro-batch when accumulating); not in --curriculum", AT_LEAST_1)
    token_budget: int = flag(0, "tokens per micro-batch, padded, in place of --batch_size (0: use that)", AT_LEAST_0)
    order: str = flag("shuffled", "rows shuffled each epoch, or fixed, as in the data", choices=("shuffled", "fixed"))
    accumulation_steps: int = flag(1, "micro-batches per step", AT_LEAST_1)
    learning_rate: float = flag(1e-3, "peak of the schedule: linear warm-up, then cosine decay", ABOVE_0)
    learning_rates: str = flag("", "peak rates by module prefix, as projector=1e-3,llm=1e-4; the longest prefix counts")
    min_lr_ratio: float = flag(0.1, "end of the decay, as a share of the peak", SHARE)
    warmup_ratio: float = flag(0.05, "share of the steps that are warm-up", SHARE)
    optimizer: str = flag("muon", "muon needs fewer tokens, a step of adamw less time", choices=("muon", "adamw"))
    weight_decay: float = flag(0.05, "decoupled weight decay, of matrices only", AT_LEAST_0)
    grad_clip: float = flag(1.0, "largest gradient norm (0: no clipping)", AT_LEAST_0)
    max_seq_len: int = flag(512, "longest sample in tokens, with its image tokens; more text is truncated", ABOVE_0)
    image_size: int = flag(128, "side of the encoder's input, in pixels", AT_LEAST_1, group="encoder to train")
    patch_size: int = flag(16, "side of a patch in pixels, a power of two", AT_LEAST_1)
    hidden_size: int = flag(256, "the encoder's width, a multiple of 64", AT_LEAST_1)
    layers: int = flag(6, "the encoder's number of layers", AT_LEAST_1)
    dropout: float = flag(0.0, "probability to drop elements and branches, against overfitting", BELOW_1)
    stage: int = flag(0, "stage of the curriculum", choices=(1, 2, 3), group="curriculum")
    fit: str = flag("cut", "answers too long for the stage: cut after a sentence, or dropped", choices=("cut", "drop"))
    curriculum: str = flag("", "parts of the training in order, as short,middle,long,final, with --steps in all "
                           "(dataset/curriculum.py; of captions: dataset/told.py)", metavar="PARTS")  # fmt: skip
    supervised_tokens: int = flag(1_500, "of a step of the --curriculum, about", AT_LEAST_1)
    keep: str = flag("last", "the last weights, or those of the lowest validation loss", choices=("last", "best"),
                     group="which step is kept")  # fmt: skip
    snapshots: str = flag("", "epochs after which weights are kept too: 1,2,5 (OUT/epoch1, ...)", metavar="EPOCHS")
    patience: int = flag(0, "stop after so many validations without a lower loss (0: never)", AT_LEAST_0)
    seed: int = flag(42, "random seed", AT_LEAST_0, group="run")
    save_interval: int = flag(200, "steps between checkpoints", AT_LEAST_1)
    eval_interval: int = flag(200, "steps between validations", AT_LEAST_1)
    log_interval: int = flag(10, "steps between log entries", AT_LEAST_1)
    num_workers: int = flag(2, "threads that draw or decode pictures", AT_LEAST_0)
    cache_gb: float = flag(8.0, "disk space for the frozen encoder's features (0: no cache)", AT_LEAST_0)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps")
    gradient_checkpointing: bool = flag(False, "recompute the decoder's activations in the backward pass")
    fsdp: bool = flag(False, "under torchrun: shard weights, gradients and optimizer state over the processes")
    dtype: str = flag("auto", "dtype of matmuls", choices=("auto", "float32", "bfloat16"))
    fast: str = flag("on", "the fused passes of model/fast, or the plain model", choices=("on", "off"))
    use_wandb: bool = flag(False, "log to Weights & Biases too (WANDB_MODE=offline works)")
    wandb_project: str = flag("Glimpse", "the W&B project")
    dry_run: bool = flag(False, "check the data, print parameters, samples, tokens, steps and memory, then stop")

    @property
    def warmup(self) -> int:
        """The steps that are warm-up, of --steps."""
        return max(round(self.warmup_ratio * self.steps), 1)


# The flags of every command, beside its own.
SHARED = (
    "out", "runs", "data", "val_data", "max_bad", "samples", "scenes", "english", "tokenizer", "epochs", "steps",
    "batch_size", "token_budget", "order", "accumulation_steps", "learning_rate", "learning_rates", "min_lr_ratio",
    "warmup_ratio", "optimizer", "weight_decay", "grad_clip", "keep", "snapshots", "patience", "seed", "save_interval",
    "eval_interval", "log_interval", "num_workers", "device", "dtype", "fast", "use_wandb", "wandb_project", "dry_run",
)  # fmt: skip
# Settings that do not change what is learned, so a run may be resumed with others.
COSMETIC = ("save_interval", "eval_interval", "log_interval", "num_workers", "cache_gb", "device", "fast",
            "gradient_checkpointing", "fsdp", "use_wandb", "wandb_project", "dry_run", "out", "runs",
            "recipe", "plugin")  # fmt: skip
# Settings newer than some runs: where a run.json lacks one, the run was made with its default.
ADDED = ("token_budget", "learning_rates", "lora_rank", "lora_alpha", "lora_targets", "keep", "patience", "init",
         "feature_layer", "cell_steps", "doubt", "dropout", "curriculum", "supervised_tokens", "order", "snapshots")


class UsageError(ValueError):
    """A command that cannot be run as given; the text says what was found, what was expected, what to do."""


def flag_of(item: dataclasses.Field) -> str:
    """The flag of a field, without its dashes."""
    return item.metadata.get("flag", item.name)


def rates_of(text: str) -> dict[str, float]:
    """Prefix -> peak rate, as --learning_rates gives them; ValueError says what is wrong with the text."""
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


def placed(args: TrainArguments, name: str) -> TrainArguments:
    """The arguments with the run's folder: --out, or `name` in --runs."""
    return dataclasses.replace(args, out=args.out or f"{args.runs}/{name}")


def with_projector_rate(args: TrainArguments, default: TrainArguments, rate: float) -> TrainArguments:
    """The arguments with a peak rate for the projector, unless data, parts or rates were given."""
    given = args.data or args.train or args.vision or args.learning_rates or args.learning_rate != default.learning_rate
    return args if given else dataclasses.replace(args, learning_rates=f"projector={rate}")


def settings(args: TrainArguments) -> dict:
    """What decides the outcome of a run, as JSON values."""
    return {name: value for name, value in vars(args).items() if name not in COSMETIC}
