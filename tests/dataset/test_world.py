"""The world of the picture book: its splits, its prior, and scenes that can be drawn."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene
from dataset.picturebook.world import (
    FREE,
    HELD,
    HELD_OUT_COLOURS,
    HELD_OUT_PLACES,
    IMPOSSIBLE,
    LIKELY,
    PERCHES,
    RIDDEN,
    SITTERS,
    SPLITS,
    TOGETHER,
    kind_weights,
    make_scene,
    total,
)

COUNT = 4000


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {split: [make_scene(split, i) for i in range(COUNT)] for split in SPLITS}


def pairs(scene: Scene) -> set[tuple[str, str | None]]:
    return {pair for t in scene.things for pair in ((t.kind, t.colour), (t.kind, scene.place))}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_held_out_pair_is_ever_in_train_val_and_test(scenes, split):
    held_out = {*HELD_OUT_COLOURS, *HELD_OUT_PLACES}
    for i, scene in enumerate(scenes[split]):
        assert not pairs(scene) & held_out, (split, i)


def test_a_held_out_pair_is_in_every_compositional_scene_and_each_pair_is_in_some(scenes):
    met: Counter = Counter()
    for scene in scenes["compositional"]:
        found = pairs(scene) & {*HELD_OUT_COLOURS, *HELD_OUT_PLACES}
        assert found
        met.update(found)
    assert set(met) == {*HELD_OUT_COLOURS, *HELD_OUT_PLACES}
    assert min(met.values()) > COUNT / len(met) / 2


def test_held_out_pairs_could_be_in_training_but_for_being_held_out():
    for kind, colour in HELD_OUT_COLOURS:
        assert colour in KINDS[kind].colours
    for kind, place in HELD_OUT_PLACES:
        assert kind not in IMPOSSIBLE.get(place, ())


def test_every_kind_colour_and_place_of_a_held_out_pair_is_in_training_otherwise(scenes):
    """Else the compositional split would ask for things that were never seen, not for new pairs of known ones."""
    seen = {pair for scene in scenes["train"] for pair in pairs(scene)}
    assert {kind for kind, _ in seen} == set(KINDS)
    assert {other for _, other in seen} == {None, *COLOURS, *PLACES}


def test_a_scene_follows_from_its_split_and_number_alone():
    first = [make_scene(split, i) for split in SPLITS for i in (0, 7, 10**6)]
    again = [make_scene(split, i) for split in reversed(SPLITS) for i in (10**6, 7, 0)][::-1]
    assert first == again


@pytest.mark.parametrize(
    "split, digest",
    [
        ("train", "f371b0cb1cadb691"),
        ("free", "3312aec25aad32a8"),
        ("val", "71087f85f352a773"),
        ("test", "4d5329ed2ffa6a34"),
        ("compositional", "4dc322a94dab0373"),
    ],
)
def test_scenes_are_the_ones_that_the_shipped_encoder_was_trained_and_scored_on(split, digest):
    """A change here makes other scenes of the same numbers: train the encoder and score everything again."""
    text = "\n".join(repr(make_scene(split, i)) for i in range(300))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_a_sum_does_not_depend_on_the_version_of_python():
    """From 3.12 on sum([0.1] * 10) is 1.0."""
    assert total([0.1] * 10) == 0.9999999999999999 and total([]) == 0


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown split 'dev'; there are train, free, val, test, compositional"):
        make_scene("dev", 0)


def test_no_scene_of_one_split_is_in_another(scenes):
    facts = {split: {repr((s.place, s.things, s.relation)) for s in some} for split, some in scenes.items()}
    for one in SPLITS:
        assert len(facts[one]) == COUNT  # nor twice in its own
        assert not any(facts[one] & facts[other] for other in SPLITS if other != one)


def test_a_scene_has_one_to_four_things_each_of_another_kind(scenes):
    counts: Counter = Counter()
    for scene in scenes["train"] + scenes["compositional"]:
        kinds = [thing.kind for thing in scene.things]
        assert 1 <= len(kinds) <= 4 and len(set(kinds)) == len(kinds)
        counts[len(kinds)] += 1
    assert min(counts[n] for n in (1, 2, 3, 4)) > 0.05 * counts.total()


def test_things_have_the_colours_actions_and_numbers_of_their_kind(scenes):
    for scene in scenes["train"] + scenes["compositional"]:
        for thing in scene.things:
            kind = KINDS[thing.kind]
            assert thing.colour in COLOURS if kind.colours else thing.colour is None
            assert thing.action in (kind.actions or (None,)) or scene.relation
            assert thing.action is None or thing.action in ACTIONS_ZH
            assert 1 <= thing.count <= 3 and thing.size in ("small", "medium", "large")
            assert kind.where != "sky" or thing.count == 1


def test_nothing_is_where_it_cannot_be(scenes):
    for split in SPLITS:
        for scene in scenes[split]:
            kinds = {thing.kind for thing in scene.things}
            assert not kinds & set(IMPOSSIBLE.get(scene.place, ()))
            assert not any({*both} <= kinds for both in TOGETHER)


def test_every_thing_is_inside_the_picture(scenes):
    """Too wide a group, or what stands beside a holder, may stick out before the drawing pulls it in; few do."""
    beyond = total = 0
    for split in SPLITS:
        for scene in scenes[split]:
            for thing in scene.things:
                assert thing.height > 0.05
                assert thing.y - thing.height >= 0 and thing.y <= 0.98
                half = KINDS[thing.kind].aspect * thing.height * thing.count / 2
                out = max(half - thing.x, thing.x + half - 1)
                assert out < 0.16
                beyond, total = beyond + (out > 0.001), total + 1
    assert beyond / total < 0.01


def test_what_stands_on_the_ground_stands_below_the_horizon_and_the_sky_is_above_the_ground(scenes):
    for scene in scenes["test"]:
        joined = {scene.relation.subject, scene.relation.object} if scene.relation else set()
        for i, thing in enumerate(scene.things):
            if i not in joined and KINDS[thing.kind].where == "ground":
                assert thing.y > PLACES[scene.place].horizon
            if KINDS[thing.kind].where == "sky":
                assert thing.y - thing.height < PLACES[scene.place].horizon


def test_relations_name_two_things_of_the_scene_that_can_be_so_related(scenes):
    met: Counter = Counter()
    for scene in scenes["train"] + scenes["compositional"]:
        relation = scene.relation
        if relation is None:
            continue
        things = range(len(scene.things))
        assert relation.subject in things and relation.object in things and relation.subject != relation.object
        subject, thing = scene.things[relation.subject], scene.things[relation.object]
        if relation.name == "on":
            assert subject.kind in PERCHES[thing.kind]
        else:
            assert subject.kind in SITTERS
            assert thing.kind in {"riding": RIDDEN, "holding": HELD}[relation.name]
        assert subject.count == thing.count == 1
        assert (subject.x, subject.y) == (thing.x, thing.y) and subject.flip == thing.flip
        met[relation.name] += 1
    assert set(met) == {"riding", "on", "holding"} and min(met.values()) > 0.02 * 2 * COUNT


def test_the_prior_over_colours_is_long_tailed(scenes):
    """A model that always says a kind's commonest colour must be right far more often than one that guesses."""
    for name, kind in KINDS.items():
        seen = Counter(t.colour for s in scenes["test"] for t in s.things if t.kind == name)
        possible = [c for c in kind.colours if (name, c) not in HELD_OUT_COLOURS]
        if len(possible) < 2:
            continue
        assert seen.most_common(1)[0][0] in possible[:3]
        assert seen[possible[0]] > 1.1 / len(possible) * seen.total()
        assert seen[possible[0]] > 1.2 * seen[possible[-1]]


def test_the_prior_ties_kinds_to_places(scenes):
    """The commonest kinds of a place hold most of what is there, and are rarer elsewhere."""
    for place in PLACES:
        here = Counter(t.kind for s in scenes["test"] if s.place == place for t in s.things)
        elsewhere = Counter(t.kind for s in scenes["test"] if s.place != place for t in s.things)
        top = [kind for kind, _ in here.most_common(8)]
        share = sum(here[kind] for kind in top) / here.total()
        assert share > 0.6
        assert share > 1.5 * sum(elsewhere[kind] for kind in top) / elsewhere.total()


def test_kinds_are_long_tailed(scenes):
    counts = Counter(t.kind for s in scenes["test"] for t in s.things)
    ordered = [count for _, count in counts.most_common()]
    assert ordered[0] > 4 * ordered[-1] > 0


def test_a_share_of_the_training_scenes_alone_heeds_no_prior(scenes):
    """There a thing may have a colour that its kind has nowhere else."""

    def odd(split: str) -> float:
        coloured = [t for s in scenes[split] for t in s.things if t.colour]
        return sum(t.colour not in KINDS[t.kind].colours for t in coloured) / len(coloured)

    assert odd("val") == odd("test") == odd("compositional") == 0
    listed = [len(kind.colours) / len(COLOURS) for kind in KINDS.values() if kind.colours]
    assert odd("train") == pytest.approx(FREE * (1 - sum(listed) / len(listed)), abs=0.03)

    def expected(split: str) -> float:
        """Share of the things that are likely at their place."""
        things = [(t.kind, s.place) for s in scenes[split] for t in s.things]
        return sum(kind in LIKELY[place] for kind, place in things) / len(things)

    assert expected("train") < expected("test") - FREE / 5


def test_the_weights_of_a_place_leave_out_what_is_held_out_or_impossible_there():
    for place in PLACES:
        weights = kind_weights(place)
        assert set(weights) == set(KINDS) - set(IMPOSSIBLE.get(place, ())) - {
            kind for kind, where in HELD_OUT_PLACES if where == place
        }
        assert min(weights.values()) > 0


def test_things_come_in_reading_order_what_is_up_first_and_each_row_from_left_to_right(scenes):
    for scene in scenes["train"][:400]:
        pair = (scene.relation.subject, scene.relation.object) if scene.relation else ()
        if pair:
            assert pair[0] < pair[1] or scene.things[pair[0]].column != scene.things[pair[1]].column
        up = [KINDS[thing.kind].where != "ground" and i not in pair for i, thing in enumerate(scene.things)]
        assert up == sorted(up, reverse=True)
        for row in (True, False):
            columns = [thing.column for thing, is_up in zip(scene.things, up, strict=True) if is_up == row]
            assert columns == sorted(columns)
