"""Flags of neighbouring projects: MiniMind-V's are understood where they mean something here, others are told ours."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from engine.arguments import UsageError

# other spellings of our flags, with the same values: the name of before, and MiniMind-V's
SAME = {"preset": ("recipe",), "data_path": ("data",), "images_path": ("images",), "image_dir": ("images",),
        "save_dir": ("runs",), "out_dir": ("runs",)}  # fmt: skip
# MiniMind-V's flags that say the same in another way -> the flags here that each can become; from_resume becomes none,
# and belongs to the commands that train
MINIMIND = {"from_weight": ("llm", "from"), "weight": ("weights",), "save_weight": ("out",), "freeze_llm": ("train",),
            "from_resume": ("dry_run",)}  # fmt: skip
FREEZE = {"0": "projector,llm", "1": "projector,llm.layers.0,llm.layers.-1", "2": "projector"}
SIZES = "a weights file knows its sizes; random weights of others are --llm random:LAYERSxWIDTH"
TORCHRUN = "start more processes with torchrun --nproc_per_node N, and there is nothing else to say"
# Flags that other projects have -> what to do here. A text that is the name of a flag: it has another name here.
ELSEWHERE = {
    # MiniMind-V
    "hidden_size": SIZES, "num_hidden_layers": SIZES, "ddp": TORCHRUN, "local_rank": TORCHRUN,
    "use_moe": "there is no mixture of experts", "use_compile": "fused passes are on already, see --fast",
    "use_swanlab": "use_wandb", "warmup_iters": "warmup_ratio", "tokenizer_path": "tokenizer", "load": "weights",
    "load_from": "weights", "model_mode": "weights", "lora_name": "weights", "show_speed": "python -m tools.bench "
    "measures speed", "swanlab_project": "wandb_project", "val_data_path": "val_data",
    # LLaVA, TinyLLaVA Factory, LLaMA-Factory
    "model_name_or_path": "llm", "vision_tower": "vision", "image_folder": "images", "output_dir": "out",
    "num_train_epochs": "epochs", "per_device_train_batch_size": "batch_size", "lr": "learning_rate",
    "gradient_accumulation_steps": "accumulation_steps", "model_max_length": "max_seq_len", "cutoff_len": "max_seq_len",
    "mm_projector_type": "projector", "connector_type": "projector", "mm_vision_select_layer": "feature_layer",
    "mm_projector_lr": "learning_rates", "tune_mm_mlp_adapter": "train", "training_recipe": "train",
    "pretrain_mm_mlp_adapter": "from", "lora_enable": "give --train projector,lora", "finetuning_type": "train",
    "lora_r": "lora_rank", "lora_target": "lora_targets", "bf16": "dtype", "fp16": "dtype", "report_to": "use_wandb",
    "save_steps": "save_interval", "eval_steps": "eval_interval", "logging_steps": "log_interval",
    "max_steps": "steps", "max_grad_norm": "grad_clip", "dataloader_num_workers": "num_workers", "optim": "optimizer",
    "dataset": "data", "dataset_dir": "data", "val_size": "val_data", "deepspeed": "fsdp", "max_samples": "samples",
    "conv_mode": "tokenizer", "model_path": "weights", "question_file": "data",
    "resume_from_checkpoint": "a run resumes by itself when its command is repeated",
    "overwrite_output_dir": "delete the folder, or choose another --out",
    # nanoVLM
    "lr_mp": "learning_rates", "lr_vision_backbone": "learning_rates", "lr_language_backbone": "learning_rates",
    "vlm_checkpoint_path": "out", "checkpoint": "weights", "no_log_wandb": "logging is off unless --use_wandb is given",
    "compile": "fused passes are on already, see --fast",
    # ours, of another command
    "llm": "the language model is that of the run that --from names", "projector": "it is that of the run that --from "
    "names; train_pretrain.py makes it", "stage": "it is a flag of train_sft.py",
}  # fmt: skip


def others_names(argv: Sequence[str], flags: Sequence[str], runs: str, say: Callable[[str], None]) -> list[str]:
    """argv with the flags of SAME and MINIMIND as a command's own.

    flags: the command's, without dashes; runs: its default for --runs; say: told what is taken for what. UsageError
    for a flag that is given under both names, and for a value that means nothing here.
    """
    words = _with_values_apart(argv, {*SAME, *MINIMIND} - {*flags})
    given = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
    out, position = [], 0
    while position < len(words):
        name = words[position][2:] if words[position].startswith("--") else ""
        target = next((flag for flag in (SAME | MINIMIND).get(name, ()) if flag in flags), "")
        if name in flags or not target:
            out.append(words[position])
            position += 1
            continue
        if target in given and name != "from_resume":
            raise UsageError(f"--{name} and --{target} say the same; give one of them")
        value = words[position + 1] if position + 1 < len(words) else "--"
        if value.startswith("--"):
            raise UsageError(f"--{name}: expected a value behind it")
        out += [f"--{target}", value] if name in SAME else _translated(name, target, value, _runs(words, runs), say)
        position += 2
    return out


def _with_values_apart(argv: Sequence[str], names: Iterable[str]) -> list[str]:
    """argv with --NAME=VALUE as two words, for these names."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        words += [name, value] if equals and name[:2] == "--" and name[2:] in names else [word]
    return words


def _runs(words: Sequence[str], default: str) -> Path:
    """The folder of runs that a command line names, under any name."""
    for name in ("--runs", *(f"--{name}" for name, (target, *_) in SAME.items() if target == "runs")):
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == name or word.startswith(f"{name}="):
                return Path(following if word == name else word.partition("=")[2])
    return Path(default)


def _translated(name: str, target: str, value: str, runs: Path, say: Callable[[str], None]) -> list[str]:
    """Our words for one of MiniMind-V's flags."""
    if name == "from_resume":
        if value not in ("0", "1"):
            raise UsageError(f"--from_resume {value}: expected 0 or 1; here a run resumes by itself when its "
                             "command is repeated")  # fmt: skip
        return []  # see restarts()
    if name == "freeze_llm":
        if value not in FREEZE:
            raise UsageError(f"--freeze_llm {value}: expected 0 (all), 1 (projector, first and last layer) or 2 "
                             "(projector); --train takes any modules")  # fmt: skip
        value = FREEZE[value]
    elif name == "save_weight":
        value = str(runs / value)
    elif value == "none":
        if target != "llm":
            raise UsageError(
                f"--{name} none: this command starts from trained weights; name a run with --{target}, or train a "
                "projector on a random language model first (python train_pretrain.py --llm random)"
            )
        value = "random"
    else:
        value = str(weights_named(value, runs, name, target))
    say(f"MiniMind-V's --{name} is taken as --{target} {value}")
    return [f"--{target}", value]


def weights_named(name: str, runs: Path, flag: str, ours: str) -> Path:
    """The run or MiniMind-V's .pth of that name in `runs`, as llm in out/llm_512.pth; UsageError unless it is one."""
    files = [file for file in sorted(runs.glob(f"{name}_*.pth")) if file.stem[len(name) + 1 :].isdigit()]
    found = [path for path in (Path(name), runs / name) if (path / "config.json").is_file() or path.suffix == ".pth"]
    if len(found or files) == 1 or found:
        return (found or files)[0]
    if files:
        raise UsageError(f"--{flag} {name}: found {', '.join(map(str, files))}; name one of them with --{ours}")
    have = sorted(path.parent.name for path in runs.glob("*/config.json")) + sorted(f.name for f in runs.glob("*.pth"))
    near = difflib.get_close_matches(name, have, 1, 0.4)
    there = f"; did you mean {near[0]}?" if near else f"; there is {', '.join(have)}" if have else ""
    raise UsageError(f"--{flag} {name}: found neither {runs / name}/ nor {runs / name}_512.pth or of another width"
                     f"{there}; --{ours} takes any path")  # fmt: skip


def restarts(argv: Sequence[str]) -> bool:
    """Whether MiniMind-V's --from_resume 0 asks for a run from its first step."""
    words = _with_values_apart([word.replace("from-resume", "from_resume") for word in argv], {"from_resume"})
    return [value for name, value in pairwise(words) if name == "--from_resume"][-1:] == ["0"]


def advice(name: str, flags: Sequence[str]) -> str:
    """What to use in place of another project's flag; "" for a name that none is known to have."""
    told = ELSEWHERE.get(name) or next(iter(SAME.get(name, MINIMIND.get(name, ()))), "")
    if told.replace("_", "").isalnum() and told not in flags:
        return "it means nothing to this command; leave it out"
    return f"it is --{told}" if told in flags else told
