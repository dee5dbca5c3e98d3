"""The studies: what each asks, its arms, and what every arm is scored on.

An arm is a list of commands, run one after another, each with a folder of its own. In a command {seed} is the seed,
{shared} the folder of what all arms of a seed start from, {before} that of the command before in the same arm, {data}
that of what the study's own data commands make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dataset.picturebook import captions_zh
from dataset.told import PROMPTS
from model.registry import PROJECTORS

CAPTIONS = ("statement_accuracy", "caption_true_share", "false_per_100_tokens", "chair_i", "chair_s", "recall", "f1",
            "amber_cog", "mean_tokens")  # fmt: skip
LENGTHS = ("statement_accuracy", "false_per_100_tokens", "chair_i", "recall", "mean_tokens", "later_less_earlier",
           "false_first/6", "chair_to_half", "forced_statement_accuracy", "forced_chair_i", "forced_recall",
           "forced_rise/chair_i", "amber_cog", "pope_accuracy")  # fmt: skip
PHOTOS = ("chair_i", "chair_s", "recall", "absent_per_100_tokens", "mean_tokens", "later_less_earlier",
          "gain_over_swapped/later_less_earlier", "human_later_less_earlier", "chair_to_half", "forced_chair_i",
          "forced_recall", "forced_rise/chair_i", "cider_d")  # fmt: skip
LONG = f"eval_vlm.py --split test --n {{n}} --questions 0 --prompt {captions_zh.PROMPTS['long'][0]}"
QUESTIONS = LONG.replace("--questions 0", "--questions {n}")
BOTH_LENGTHS = LONG.replace("eval_vlm.py", "-m tools.studies.lengths").replace("--questions 0", "--questions 100")


@dataclass(frozen=True)
class Tradeoff:
    """A metric that the arms gain, one that they may lose, and the arms of full training by rate, the lowest first."""

    gained: str
    kept: str
    rates: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """arms: name -> commands. reference: the arm that the others are compared with. shared: commands of which all arms
    of a seed use the results; {before} is the one before. data: commands that make {data}, once. scored: scores a row;
    it may leave `scalars`, of which a row has one each, and a `curve` of points in its --scores (curves.py)."""

    question: str
    arms: Mapping[str, tuple[str, ...]]
    reference: str
    shared: tuple[str, ...] = ()
    scored: str = LONG
    seeds: int = 3
    metrics: tuple[str, ...] = CAPTIONS
    data: tuple[str, ...] = ()
    plugin: str = ""  # of the projectors that it compares
    tradeoff: Tradeoff | None = None
    photos: bool = False  # about the photographs of a recipe, which --recipe names


ALIGNED = "train_pretrain.py --samples 3200 --seed {seed}"
STEPS = 80
SFT = (f"train_sft.py --stage 3 --from {{shared}} --steps {STEPS} --supervised_tokens 750 --seed {{seed}} "
       "--curriculum ")


def in_parts(*names: str) -> tuple[str, ...]:
    """The command of one training that sees these parts in order."""
    return (SFT + ",".join(names),)


# A language model of 4.5M weights that has read 500 steps of the book: what it knows of questions, it can still forget.
FROM_NOTHING = (
    "train_lm.py --llm random:4x256 --samples 16000 --seed {seed}",
    "train_pretrain.py --llm {before} --samples 3200 --seed {seed}",
    "train_sft.py --stage 1 --from {before} --samples 9600 --seed {seed}",
)
TUNE = "train_sft.py --stage 3 --from {shared} --steps 240 --supervised_tokens 750 --seed {seed} --curriculum "
TELL = "train_sft.py --stage 1 --from {shared} --steps 240 --augment none --seed {seed} --curriculum "
LM_STEPS, ALIGN_STEPS = 400, 160
OWN = "train_pretrain.py --seed {seed} --cell_steps 0 --steps"
RANDOM = "--llm random:4x256 --init matching"
FROM_TEXT = (f"train_lm.py --llm random:4x256 --steps {LM_STEPS} --seed {{seed}}",
             "train_pretrain.py --llm {before} --samples 3200 --seed {seed}")
FINAL = "train_sft.py --stage 3 --from {shared} --steps 120 --supervised_tokens 750 --seed {seed} --curriculum final"

NAMING = ("train_pretrain.py --llm random:4x256 --init matching --train projector,llm --cell_steps 0 --seed {{seed}} "
          "--data {{data}}/{}/train.jsonl --val_data {{data}}/all/test.jsonl --steps 840 --snapshots 1,2,4,7,10")
REPEATED = "train_sft.py --stage 3 --from {shared} --scenes 512 --samples 512 --epochs 6 --log_interval 1 --seed {seed}"

STUDIES: dict[str, Study] = {
    "curriculum": Study(
        "Does growing the text slowly lower hallucination at the final length?",
        {
            "growing": in_parts("short", "middle", "long", "final"),
            "final at once": in_parts("final", "final", "final", "final"),
            "shuffled": in_parts("all", "all", "all", "final"),
            "reversed": in_parts("long", "middle", "short", "final"),
            "growing by truncation": in_parts("beginning", "half", "long", "final"),
            "long only": in_parts("long", "long", "long", "long"),
            "short only": in_parts("short", "short", "short", "short"),
        },
        "final at once", (ALIGNED,), BOTH_LENGTHS, seeds=5, metrics=LENGTHS,
    ),
    "photos-curriculum": Study(
        "Does growing the text slowly lower hallucination about photographs?",
        {
            "growing": (TELL + "short,middle,long,final",),
            "final at once": (TELL + "final,final,final,final",),
            "shuffled": (TELL + "all,all,all,final",),
            "reversed": (TELL + "long,middle,short,final",),
            "long only": (TELL + "long,long,long,long",),
            "short only": (TELL + "short,short,short,short",),
            "short only, fewer steps": (TELL.replace("--steps 240", "--steps 92") + "short,short,short,short",),
        },
        "final at once", ("train_pretrain.py --steps 47 --augment none --seed {seed}",),
        scored=f"-m tools.studies.lengths --n {{n}} --page '' --max_new_tokens 96 --prompt '{PROMPTS[4][0]}'",
        metrics=PHOTOS, photos=True,
    ),
    "random-init": Study(
        "What does the language model's own training bring?",
        {
            "trained, frozen": (f"{OWN} {ALIGN_STEPS} --llm {{shared}}",),
            "trained, trained on": (f"{OWN} {ALIGN_STEPS} --llm {{shared}} --train projector,llm",),
            "random, frozen": (f"{OWN} {ALIGN_STEPS} {RANDOM}",),
            "random, trained": (f"{OWN} {ALIGN_STEPS} {RANDOM} --train projector,llm",),
            "random, trained as long as both": (f"{OWN} {LM_STEPS + ALIGN_STEPS} {RANDOM} --train projector,llm",),
        },
        "trained, frozen", FROM_TEXT[:1],
        scored="eval_vlm.py --split test --n {n} --questions 0 --max_new_tokens 64", seeds=5,
    ),
    "projector": Study(
        "Does the kind of projector matter, or the number of image tokens?",
        {},  # one for each kind that there is, see study_of()
        "ldp", scored="eval_vlm.py --split test --n {n} --questions 0 --max_new_tokens 64", seeds=5,
        plugin="tools/studies/projectors.py",
    ),
    "freeze": Study(
        "Which weights have to train, at the same steps?",
        {
            name: (f"{FINAL} --train {trained}",)
            for name, trained in {
                "projector": "projector", "projector, language model": "projector,llm",
                "projector, encoder": "projector,vision", "all": "projector,llm,vision",
                "attention": "projector,llm.layers.*.self_attn",
                "gate and up": "projector,llm.layers.*.mlp.gate_proj,llm.layers.*.mlp.up_proj",
                "last layer": "projector,llm.layers.-1", "LoRA 2": "projector,lora --lora_rank 2",
                "LoRA 8": "projector,lora --lora_rank 8", "LoRA 32": "projector,lora --lora_rank 32",
            }.items()
        },
        "projector, language model", FROM_TEXT,
    ),
    "forgetting": Study(
        "Does captioning unlearn question answering, and what brings it back?",
        {
            "before": (),
            "captions": (TUNE + "captions",),
            "captions, low rate": (TUNE + "captions --learning_rate 1e-4 --learning_rates projector=3e-5",),
            "captions, middle rate": (TUNE + "captions --learning_rate 3e-4 --learning_rates projector=1e-4",),
            "captions, high rate": (TUNE + "captions --learning_rate 3e-3",),
            "5% questions": (TUNE + "captions5",),
            "20% questions": (TUNE + "captions20",),
            "captions by LoRA": (TUNE + "captions --train projector,lora",),
            "captions by LoRA, high rate": (TUNE + "captions --train projector,lora --learning_rate 3e-3",),
            "captions, then questions": (TUNE + "captions", TUNE.replace("{shared}", "{before}") + "questions"),
        },
        "before", FROM_NOTHING, QUESTIONS,
        metrics=("vqa_accuracy", "pope_accuracy", "pope_yes_rate", "question_mean_tokens", *CAPTIONS),
        tradeoff=Tradeoff("statement_accuracy", "vqa_accuracy",
                          ("captions, low rate", "captions, middle rate", "captions", "captions, high rate")),
    ),
    "brands": Study(
        "Does naming brands get worse with more epochs, and do names that are seen a few times only do harm?",
        {"all names": (NAMING.format("all"),), "names seen 5 times or more": (NAMING.format("from5"),)},
        "all names",
        scored="-m tools.studies.epochs --data {data}/all/test.jsonl --counts {data}/all/train.jsonl --n {n}",
        metrics=("accuracy", "best_accuracy", "accuracy_seen", "accuracy/common", "accuracy/middle", "accuracy/rare",
                 "train_accuracy", "gap", "best_epoch", "lost_since_best"),
        data=("-m dataset.brands {data}/all --brands 300 --most 300",
              "-m dataset.brands {data}/from5 --brands 300 --most 300 --min_count 5"),
    ),
    "data-order": Study(
        "Is a jump of the loss from one epoch to the next the work of a fixed order of the data?",
        {order: (f"{REPEATED} --order {order}",) for order in ("shuffled", "fixed")},
        "shuffled", (ALIGNED,), scored=LONG.replace("eval_vlm.py", "-m tools.studies.order"),
        metrics=("jump", "within", "loss", "val_loss", "statement_accuracy", "false_per_100_tokens", "f1"),
    ),
}  # fmt: skip


def study_of(name: str) -> Study:
    """The study of that name; that of projectors with an arm for each kind, those of a plugin among them."""
    study = STUDIES[name]
    if name != "projector":
        return study
    command = "train_pretrain.py --seed {{seed}} --cell_steps 0 --samples 3200 --projector {}"
    return replace(study, arms={kind: (command.format(kind),) for kind in PROJECTORS})
