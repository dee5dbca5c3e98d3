"""Where in a caption it hallucinates, and of what: by mention, by length, by how common a thing is, as AMBER counts.

All are ratios of counts, as in scoring/metrics.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from dataset.picturebook.facts import Scene
from dataset.picturebook.questions import popularity
from dataset.picturebook.world import kind_weights
from scoring.mentions import read_caption
from scoring.metrics import SampleScores
from scoring.photo_things import covered, judged
from scoring.statements import judge

MENTIONS = 8  # of a caption that are looked at one by one
STATEMENTS = (3, 6, 10)  # lengths at which captions are compared, in statements
TIERS = ("common", "middle", "rare")


def hallucination_scores(text: str, scene: Scene, tokens: int) -> SampleScores:
    """Scores of a caption of so many tokens against the facts of its scene:

    false_per_100_tokens, absent_per_100_tokens: false statements, mentions of what is absent / tokens, times 100.
    false_at/<k>: k-th mentions of an object that is absent / captions with k mentions.
    false_first/<n>: false statements among the first n / such statements: captions cut to the same length.
    chair_first/<k>, cover_first/<k>: absent mentions, and kinds covered, up to the k-th mention: hallucination at equal
    coverage. A caption with fewer mentions counts with all it has.
    later_less_earlier: the absent share of the later half of the mentions less that of the earlier half, the middle
    one of an odd number left out; of captions with two mentions or more.
    chair_to_half: absent mentions / mentions, up to the one that covers half of what is there, else of all.
    reached_half: captions that cover half / captions.
    chair_i/<tier>: absent mentions / mentions of kinds that are common, middling or rare in training.
    amber_cover, amber_hal, amber_cog (AMBER, arXiv 2311.07397): kinds covered / kinds of the scene; captions with an
    absent kind / captions; absent kinds that one would expect at that place / kinds mentioned.
    """
    verdicts = [bool(one.verdict) for one in judge(text, scene) if one.verdict is not None]
    said = read_caption(text)
    present = {thing.kind for thing in scene.things}
    absent = [mention.kind not in present for mention in said.mentions]
    named = set(said.kinds)
    so_far = [len({mention.kind for mention in said.mentions[:k]} & present) for k in range(1, len(absent) + 1)]
    scores: SampleScores = {"false_per_100_tokens": (100 * verdicts.count(False), tokens)}
    for n in STATEMENTS:
        scores[f"false_first/{n}"] = (verdicts[:n].count(False), len(verdicts[:n]))
    scores |= mention_scores(absent, so_far, len(present), tokens)
    for tier in TIERS:
        of_tier = [gone for gone, mention in zip(absent, said.mentions, strict=True) if tier_of(mention.kind) == tier]
        scores[f"chair_i/{tier}"] = (sum(of_tier), len(of_tier))
    usual = usual_kinds(scene.place)
    scores["amber_cover"] = (len(named & present), len(present))
    scores["amber_hal"] = (float(bool(named - present)), 1)
    scores["amber_cog"] = (len((named - present) & usual), len(named))
    return scores


def photo_hallucination(text: str, references: Sequence[str], tokens: int) -> SampleScores:
    """The scores by mention of a caption of a photograph, by what its references name (scoring/photo_things.py)."""
    found, absent, salient = judged(text, references)
    along = [covered(found[:k], salient) for k in range(1, len(found) + 1)]
    return mention_scores(absent, along, len(salient), tokens)


def mention_scores(absent: Sequence[bool], so_far: Sequence[int], total: int, tokens: int) -> SampleScores:
    """The scores by mention of a caption, see hallucination_scores().

    absent: of each mention, in order. so_far: how many of the `total` things are named up to it.
    """
    scores: SampleScores = {"absent_per_100_tokens": (100 * sum(absent), tokens)}
    for k in range(1, MENTIONS + 1):
        scores[f"false_at/{k}"] = (float(absent[k - 1]), 1) if len(absent) >= k else (0, 0)
        scores[f"chair_first/{k}"] = (sum(absent[:k]), len(absent[:k]))
        scores[f"cover_first/{k}"] = (so_far[:k][-1] if so_far else 0, total)
    middle = len(absent) // 2
    more = sum(absent[len(absent) - middle :]) - sum(absent[:middle])
    scores["later_less_earlier"] = (more / middle, 1) if middle else (0, 0)
    half = next((k for k, count in enumerate(so_far, 1) if 2 * count >= total), len(absent))
    reached = 2 * (so_far[-1] if so_far else 0) >= total
    return scores | {"chair_to_half": (sum(absent[:half]), half), "reached_half": (float(reached), 1)}


@cache
def tier_of(kind: str) -> str:
    """The third of the kinds that it is in, by how common it is in training."""
    order = sorted(popularity(), key=lambda name: (-popularity()[name], name))
    return TIERS[order.index(kind) * len(TIERS) // len(order)]


@cache
def usual_kinds(place: str) -> frozenset[str]:
    """Kinds that are more likely at a place than the median kind that can be there."""
    weights = kind_weights(place)
    median = float(np.median(list(weights.values())))
    return frozenset(kind for kind, weight in weights.items() if weight > median)
