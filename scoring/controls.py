"""What scores are worth: what answers earn that have not seen the picture, and warnings where it is as much."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from dataset.bad_rows import BadRow, DataError
from dataset.curation.quality import is_chinese
from dataset.formats.sources import RecordFile
from dataset.mixture import read_names
from scoring.answers import normalise
from scoring.metrics import SampleScores, differences, summarise, with_prefix
from scoring.report import aligned, cell
from scoring.tasks import ReferenceTask, Task, caption_samples

COMPARED = {"bleu_1": "BLEU-1", "bleu_4": "BLEU-4", "cider_d": "CIDEr-D", "chair_i": "absent things"}
CONTROLS = {
    "": "the model", "blank_": "the model, picture blanked", "swapped_": "its answers, pictures swapped",
    "commonest_": "the commonest caption of {}", "random_": "a random caption of {}",
    "human_": "one human against the others",
}  # fmt: skip
# What tells whether the picture matters: of a task, those that it has; contains only where there is no CIDEr-D.
HEADLINES = ("cider_d", "statement_accuracy", "vqa_accuracy", "pope_accuracy", "contains")
UNSEEING = {  # control -> what was done, the likely cause and what to try
    "blank": ("every picture blanked", "what the encoder sees does not reach the answers. Check that it is the encoder "
              "of training (--vision) and that --images holds these pictures; train the projector longer."),
    "swapped": ("the answers shuffled among the pictures", "they do not tell the pictures apart. Compare with the "
                "commonest caption above; train longer, or on more captions."),
}  # fmt: skip
ALIKE = 0.9  # share of answers that are the same, from which on nearly all are
FEW = 10  # with fewer answers nothing is said of them
ENOUGH = 100  # answers with which an interval is narrow
READ = 100_000  # rows of the training data that are read, spread over each file


def controls(
    task: ReferenceTask, texts: Sequence[str], training: Sequence[str] = (), seed: int = 0
) -> dict[str, object]:
    """METEOR where it is installed, and what other answers earn in those of COMPARED, with intervals.

    swapped_: the same answers, each given to another picture (a cyclic permutation).
    commonest_, random_: captions of training in the references' script, else of these references: the commonest for
    every picture, and one drawn for each, not from its own references.
    human_: one of a picture's references, drawn, against its others (pictures with two or more).
    gain_over_swapped/cider_d: the answers' CIDEr-D less that of the swapped ones, with its paired interval.
    training_captions: how many of training were known. {} for a task without references.
    """
    if task.captions is None:
        return {}
    scorer, rng = task.captions, random.Random(f"controls {seed}")
    meteor = scorer.meteor(texts)
    pool = _same_script(training, task.references)
    found: dict[str, object] = {"training_captions": len(pool)} | ({} if meteor is None else {"meteor": meteor})
    other = _another(len(texts), rng)
    everyday = pool or [caption for captions in task.references for caption in captions]
    drawn = [rng.choice(pool or task.references[other[i]]) for i in range(len(texts))]
    rated = partial(caption_samples, references=task.references, scorer=scorer)
    samples = {"commonest_": rated([commonest(everyday)[0]] * len(texts)), "random_": rated(drawn)}
    if len(texts) > 1:
        samples["swapped_"] = rated([texts[i] for i in other])
        found |= gains("swapped", rated(texts), samples["swapped_"], seed)
    several = [rng.sample(captions, len(captions)) for captions in task.references if len(captions) > 1]
    if several:
        samples["human_"] = caption_samples([first for first, *_ in several], [rest for _, *rest in several])
    for prefix, scores in samples.items():
        summary = summarise(scores, seed)
        kept = {name: summary[name] for name in summary if name.removesuffix("_ci95") in COMPARED}
        found |= with_prefix(prefix, kept)
    return found


def gains(
    control: str, answers: Sequence[SampleScores], others: Sequence[SampleScores], seed: int = 0
) -> dict[str, object]:
    """gain_over_<control>/<headline>: the headline metrics of answers less those of others, with paired intervals."""
    found: dict[str, object] = {}
    compared = differences(others, answers, seed)
    for name in HEADLINES:
        if name in compared and not (name == "contains" and "cider_d" in compared):
            found[f"gain_over_{control}/{name}"] = compared[name].gain
            found[f"gain_over_{control}/{name}_ci95"] = compared[name].ci95
    return found


def variety(task: Task, texts: Sequence[str]) -> dict[str, object]:
    """How many answers there are and how many are different, normalised; the commonest one's share."""
    if task.prefix:  # questions have few answers
        return {}
    different, share = len(set(map(normalise, texts))), commonest(texts)[1]
    return {"answers": len(texts), "different_answers": different, "commonest_answer_share": share}


def commonest(texts: Sequence[str]) -> tuple[str, float]:
    """The commonest text, as it is first written, and the share of texts that equal it once normalised."""
    plain = [normalise(text) for text in texts]
    (most, count), *_ = Counter(plain).most_common(1)
    return texts[plain.index(most)], count / len(texts)


def _another(count: int, rng: random.Random) -> list[int]:
    """For each of `count` indices another one, all of them once; the same one where there is no other."""
    order = rng.sample(range(count), count)
    following = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return [following[i] for i in range(count)]


def _same_script(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    """The captions with Chinese characters if most references have some, else those without."""
    wanted = [is_chinese(texts[0]) for texts in references]
    mostly = 2 * sum(wanted) > len(wanted)
    return [caption for caption in captions if is_chinese(caption) is mostly]


def captions_of_training(settings: Mapping[str, object]) -> list[str]:
    """The captions, else the last answer, of each row of a run's --data; [] where it had none or the files are gone."""
    found: list[str] = []
    try:
        files = [(file, one.subset) for one in read_names(str(settings.get("data") or "")) for file in one.files]
        for rows in [RecordFile(file, text_only=True, subset=of, use="train") for file, of in files if file.exists()]:
            for i in range(0, len(rows), -(-len(rows) // READ)):
                try:
                    found += rows[i].references or (rows[i].turns[-1].text,)
                except BadRow:  # training has reported it
                    continue
    except (DataError, OSError):  # the files have changed since
        return []
    return found


def control_table(metrics: Mapping[str, object]) -> str:
    """The model beside the controls, a line each; "" where there are none."""
    if "training_captions" not in metrics:
        return ""
    source = "training" if metrics["training_captions"] else "another picture's references"
    rows = [["", *COMPARED.values()]]
    for prefix, title in CONTROLS.items():
        if f"{prefix}cider_d" in metrics:
            title = title.format("these references" if prefix == "commonest_" and source != "training" else source)
            rows.append([title, *(cell(metrics, f"{prefix}{name}") for name in COMPARED)])
    lines = [aligned(rows), f"\n{metrics['different_answers']:,} different answers among {metrics['answers']:,}."]
    lines.append("Tokens: Chinese by characters, else as COCO's PTBTokenizer; cider_plain is CIDEr without its D. "
                 "Absent things: share of the things named that no human names (scoring/photo_things.py).")
    if "meteor" not in metrics:
        lines.append("No METEOR: it takes java and pip install pycocoevalcap.")
    return "\n".join(lines)


def findings(metrics: Mapping[str, object]) -> list[str]:
    """What stands beside the scores: the table of controls, if there is one, and each warning."""
    return [text for text in (control_table(metrics), *(f"⚠ {one}" for one in warnings(metrics))) if text]


def warnings(metrics: Mapping[str, object]) -> list[str]:
    """What in the metrics of one evaluation speaks against a model that sees, each with a cause and what to try."""
    found = []
    number, share = metrics.get("answers"), metrics.get("commonest_answer_share")
    count = number if isinstance(number, int) else 0
    if count < FEW:
        return []
    if isinstance(share, float) and share >= ALIKE:
        found.append(
            f"{share:.0%} of {count:,} answers are the same: the model has settled on one, or all rows ask for it. "
            "Look at the loss and the samples of its run; align the projector first (train_pretrain.py), then train "
            "longer or at a lower --learning_rate."
        )
    few = f" With {count:,} answers the interval is wide: score more (--n)." if count < ENOUGH else ""
    for control, (done, advice) in UNSEEING.items():
        for name in HEADLINES:
            gain, interval = (metrics.get(f"gain_over_{control}/{name}{end}") for end in ("", "_ci95"))
            if isinstance(interval, list) and interval[0] <= 0:
                low, high = interval
                found.append(f"{name} is as high with {done} (gain {gain:.3f} [{low:.3f}, {high:.3f}]): {advice}{few}")
    return found
