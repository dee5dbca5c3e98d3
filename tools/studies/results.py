"""What the rows of a study say: means over seeds and scenes with intervals, arms compared in pairs, a table.

All arms answer for the same scenes from the same seeds, so seeds and scenes are crossed: a resample draws seeds and,
independently, scenes, each with replacement, the same for both arms that are compared. With few seeds the intervals are
too narrow, as percentiles of so few draws are. Of what a row has one number (its `scalars`, as an epoch), means over
the seeds have Student's t intervals, and arms are compared by the paired t test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.bad_rows import BadRows, DataError
from scoring.answer_file import read_answers
from scoring.hallucination import hallucination_scores, photo_hallucination
from scoring.metrics import Ratio, SampleScores, interval, p_value, with_prefix
from scoring.report import aligned
from tools.compare import scene_of

RESAMPLES = 1000
RISE = "later_less_earlier"


@dataclass(frozen=True)
class Crossed:
    """A metric's numerators and denominators (seeds, pictures) of one arm."""

    tops: np.ndarray
    bottoms: np.ndarray

    def value(self) -> float | None:
        return self.tops.sum() / self.bottoms.sum() if self.bottoms.sum() else None

    def drawn(self, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The metric (R,) in each resample, of weights (R, seeds) and (R, pictures); NaN where it is undefined."""
        seeds, pictures = weights
        tops, bottoms = (((seeds @ counts) * pictures).sum(1) for counts in (self.tops, self.bottoms))
        return np.divide(tops, bottoms, out=np.full(len(tops), np.nan), where=bottoms > 0)


@dataclass(frozen=True)
class Difference:
    """One metric less another, of one arm or of two, over the same seeds and pictures."""

    one: Crossed
    other: Crossed

    def value(self) -> float | None:
        one, other = self.one.value(), self.other.value()
        return None if one is None or other is None else one - other

    def drawn(self, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return self.one.drawn(weights) - self.other.drawn(weights)


def with_differences(metrics: Mapping[str, Crossed]) -> dict[str, Crossed | Difference]:
    """The metrics of an arm, and of each what captions of a forced length have more than those of natural length, and
    what captions of the right picture have more than the same of another."""
    found: dict[str, Crossed | Difference] = dict(metrics)
    for name, counts in metrics.items():
        if f"forced_{name}" in metrics:
            found[f"forced_rise/{name}"] = Difference(metrics[f"forced_{name}"], counts)
        if f"swapped_{name}" in metrics:
            found[f"gain_over_swapped/{name}"] = Difference(counts, metrics[f"swapped_{name}"])
    return found


@dataclass(frozen=True)
class Value:
    """A metric of an arm; against the reference arm its difference, that one's interval and p."""

    value: float | None
    ci95: list[float] | None
    gain: float | None = None
    gain_ci95: list[float] | None = None
    p: float | None = None


def read_scores(answers: Path) -> list[dict[str, Ratio]]:
    """The scores of all answers about each picture of a run."""
    found: dict[str, dict[str, Ratio]] = {}
    rows = read_answers(answers, BadRows(0.0))
    for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
        scores = caption_scores(row)
        scores |= unseen_scores(row, other) if "cider_d" in scores else {}
        of_picture = found.setdefault(row["picture"], {})
        for name, (top, bottom) in scores.items():  # counts add up: answers about one picture are not independent
            before = of_picture.get(name, (0, 0))
            of_picture[name] = before[0] + top, before[1] + bottom
    return list(found.values())


def caption_scores(row: Mapping) -> SampleScores:
    """The scores of a row of answers; those of a caption with where it hallucinates what."""
    scores, scene = dict(row["scores"]), scene_of(row["picture"])
    if scene is not None and "statement_accuracy" in scores:
        return scores | hallucination_scores(row["answer"], scene, row["tokens"])
    if "cider_d" in scores:
        return scores | photo_hallucination(row["answer"], row["references"], row["tokens"])
    return scores


def unseen_scores(row: Mapping, other: Mapping) -> SampleScores:
    """How much of the rise along a photograph's caption needs no picture, as things that come late are rarer ones.

    swapped_<metric>: RISE and false_at/<k> of the same caption, judged by another photograph. human_<metric>: those of
    the first of its references, judged by the others.
    """
    scores = with_prefix("swapped_", _along(row["answer"], other.get("references", [])))
    first, *rest = row["references"]
    return scores | (with_prefix("human_", _along(first, rest)) if rest else {})


def _along(caption: str, references: Sequence[str]) -> SampleScores:
    scores = photo_hallucination(caption, references, tokens=1)  # what counts tokens is left out
    return {name: counts for name, counts in scores.items() if name == RISE or name.startswith("false_at/")}


def crossed(rows: Sequence[Mapping], folder: Path) -> dict[str, dict[str, Crossed]]:
    """arm -> metric -> its counts, of rows whose answers lie in the study's folder.

    DataError where an arm lacks a seed, or pictures, that another has.
    """
    seeds = sorted({row["seed"] for row in rows})
    table: dict[str, dict[str, Crossed]] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = {row["seed"]: read_scores(folder / row["answers"]) for row in rows if row["arm"] == arm}
        lengths = {len(scores) for scores in of_arm.values()}
        if sorted(of_arm) != seeds or len(lengths) != 1:
            found = f"seeds {sorted(of_arm)} and {sorted(lengths)} pictures"
            raise DataError(f"{arm}: found {found}, expected seeds {seeds} with equally many pictures")
        of_seeds = [of_arm[seed] for seed in seeds]
        names = dict.fromkeys(name for scores in of_seeds for one in scores for name in one)
        counts = np.array([[[one.get(name, (0, 0)) for name in names] for one in scores] for scores in of_seeds], float)
        table[arm] = {name: Crossed(counts[:, :, i, 0], counts[:, :, i, 1]) for i, name in enumerate(names)}
    sizes = {arm: next(iter(metrics.values())).tops.shape for arm, metrics in table.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"the arms have other numbers of seeds and pictures: {sizes}; score them alike")
    return table


def values_of(
    rows: Sequence[Mapping], table: Mapping[str, Mapping[str, Crossed]], reference: str
) -> dict[str, dict[str, Value]]:
    """arm -> metric or scalar -> its value with a 95% interval, and against the reference arm. table: of crossed()."""
    values, scalars = compare(table, reference), over_seeds(rows, reference)
    return {arm: of_arm | scalars[arm] for arm, of_arm in values.items()}


def resamples(shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and, independently, each picture is drawn: (RESAMPLES, seeds), (RESAMPLES, pictures)."""
    generator = np.random.default_rng(seed)
    seeds, pictures = (generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float) for n in shape)
    return seeds, pictures


def compare(table: Mapping[str, Mapping[str, Crossed]], reference: str, seed: int = 0) -> dict[str, dict[str, Value]]:
    """arm -> metric -> its value with a 95% interval, and against the reference arm."""
    weights = resamples(next(iter(table[reference].values())).tops.shape, seed)
    found: dict[str, dict[str, Value]] = {}
    bases = with_differences(table[reference])
    for arm, metrics in table.items():
        found[arm] = {}
        for name, counts in with_differences(metrics).items():
            value, drawn = counts.value(), counts.drawn(weights)
            base = bases.get(name)
            if arm == reference or base is None or value is None or base.value() is None:
                found[arm][name] = Value(value, interval(drawn))
                continue
            gains = drawn - base.drawn(weights)
            gains = gains[~np.isnan(gains)]
            gain = value - (base.value() or 0.0)
            found[arm][name] = Value(value, interval(drawn), gain, interval(gains), p_value(gains))
    return found


def over_seeds(rows: Sequence[Mapping], reference: str) -> dict[str, dict[str, Value]]:
    """arm -> name of a scalar -> its mean over the seeds, and against the same seeds of the reference arm."""
    of_arms: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        of_arms.setdefault(row["arm"], {})[row["seed"]] = row.get("scalars") or {}
    found: dict[str, dict[str, Value]] = {}
    for arm, seeds in of_arms.items():
        found[arm] = {}
        for name in next(iter(seeds.values())):
            values = np.array([seeds[seed].get(name, np.nan) for seed in sorted(seeds)], float)
            base = np.array([of_arms[reference].get(seed, {}).get(name, np.nan) for seed in sorted(seeds)], float)
            if np.isnan(values).any():
                continue
            mean, ci95, _ = student(values)
            paired = arm != reference and not np.isnan(base).any()
            found[arm][name] = Value(mean, ci95, *student(values - base)) if paired else Value(mean, ci95)
    return found


def student(values: np.ndarray) -> tuple[float, list[float] | None, float | None]:
    """The mean of a sample (n,), its 95% interval by Student's t, and the two-sided p of a mean of 0; of one None."""
    mean, freedom = float(values.mean()), len(values) - 1
    if not freedom:
        return mean, None, None
    error = float(values.std(ddof=1)) / math.sqrt(freedom + 1)
    low, high = 0.0, 1e4
    for _ in range(60):  # the t that is exceeded with p = 0.05
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 0.05 else (low, middle)
    p = student_p(mean / error, freedom) if error else float(not mean)
    return mean, [mean - high * error, mean + high * error], p


def student_p(t: float, freedom: int) -> float:
    """The two-sided p of Student's t, by the finite series in the angle (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle, odd = math.atan(abs(t) / math.sqrt(freedom)), freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(odd, freedom - 1 + odd, 2):
        total += term
        term *= (k + 1) / (k + 2) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return 1 - (2 / math.pi * (angle + within) if odd else within)


def study_table(
    rows: Sequence[Mapping], values: Mapping[str, Mapping[str, Value]], metrics: Sequence[str], markdown: bool = False
) -> str:
    """A line for each arm: its budget, and each metric with its interval and, where p < 0.05 against the reference, a
    star."""
    budgets = {arm: budget(rows, arm) for arm in values}
    lines = [["arm", *next(iter(budgets.values())), *metrics]]
    for arm, of_arm in values.items():
        lines.append([arm, *budgets[arm].values(), *(cell(of_arm.get(name)) for name in metrics)])
    return aligned(lines, markdown)


def budget(rows: Sequence[Mapping], arm: str) -> dict[str, str]:
    """What an arm was given, on average over these seeds; the projector's weights where those of arms differ."""
    own = [row for row in rows if row["arm"] == arm]
    mean = lambda key: float(np.mean([row[key] for row in own]))  # noqa: E731
    told = {
        "seeds": ", ".join(str(row["seed"]) for row in own),
        "steps": " or ".join(f"{steps:,}" for steps in sorted({row["steps"] for row in own})),
        "tokens": f"{mean('tokens'):,.0f}", "supervised": f"{mean('supervised'):,.0f}",
        "minutes": f"{mean('seconds') / 60:.1f}",
    }  # fmt: skip
    differ = len({row.get("projector") for row in rows}) > 1
    return told | ({"projector": f"{own[0]['projector']:,}"} if differ else {})


def gains_table(values: Mapping[str, Mapping[str, Value]], metrics: Sequence[str], reference: str) -> str:
    """In Markdown each arm less the reference arm, with the interval and p of the paired test; "" of a single arm."""
    others = {arm: of_arm for arm, of_arm in values.items() if arm != reference}
    if not others:
        return ""
    lines = [["arm", *metrics]]
    lines += [[arm, *(gain_of(of_arm.get(name)) for name in metrics)] for arm, of_arm in others.items()]
    head = f"Less '{reference}', with the 95% interval and p of the difference over the same pictures and seeds:"
    return f"{head}\n\n{aligned(lines, markdown=True)}"


def gain_of(value: Value | None) -> str:
    """A difference as "+0.021 [+0.003, +0.040], p 0.024"; "-" where there is none."""
    if value is None or value.gain is None or value.gain_ci95 is None or value.p is None:
        return "-"
    digits = 1 if value.value is not None and abs(value.value) >= 10 else 3
    low, high = value.gain_ci95
    return f"{value.gain:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], p {value.p:.3f}"


def cell(value: Value | None) -> str:
    if value is None or value.value is None:
        return "-"
    low, high = value.ci95 or (value.value, value.value)
    digits = 1 if abs(value.value) >= 10 else 3
    star = "*" if value.p is not None and value.p < 0.05 else ""
    return f"{value.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]{star}"
