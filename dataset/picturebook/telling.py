"""What captions and questions of both languages share: grouping things, and locating them."""

from __future__ import annotations

from itertools import pairwise

from dataset.picturebook.facts import KINDS, SIDE_LINES, Scene, Thing

LENGTHS = ("phrase", "sentence", "paragraph", "long")
NEAR = 0.2  # centres closer than this are neither left nor right of each other
LARGE, SMALL = 1.1, 0.9  # ratio of the drawn to the usual height from which a thing looks so
EDGE = 0.03  # a centre this close to the line between two sides is ambiguous


def units(scene: Scene) -> list[tuple[Thing, ...]]:
    """The things in order; subject and object of a relation are one unit."""
    pair: tuple[int, ...] = (scene.relation.subject, scene.relation.object) if scene.relation else ()
    grouped: list[tuple[Thing, ...]] = []
    for i, thing in enumerate(scene.things):
        if i not in pair:
            grouped.append((thing,))
        elif i == min(pair):
            grouped.append((scene.things[pair[0]], scene.things[pair[1]]))
    return grouped


def acting_and_still(scene: Scene) -> tuple[list[tuple[Thing, ...]], list[Thing]]:
    """(units that do something, things that only stand or lie there, without those in the sky), each in order."""
    acting = [unit for unit in units(scene) if len(unit) == 2 or unit[0].action]
    return acting, [unit[0] for unit in units(scene) if unit not in acting and not in_sky(unit[0])]


def relation_form(scene: Scene, subject: Thing) -> str:
    """How the scene's relation is put into words: riding, in (a boat), holding, on (of a thing), or an action on it."""
    assert scene.relation
    if scene.relation.name == "riding" and scene.things[scene.relation.object].kind == "boat":
        return "in"
    return subject.action if scene.relation.name == "on" and subject.action else scene.relation.name


def in_sky(thing: Thing) -> bool:
    return KINDS[thing.kind].where == "sky"


def split_sky(scene: Scene) -> tuple[list[Thing], list[Thing]]:
    """(things not in the sky, things in the sky), each in order."""
    return [t for t in scene.things if not in_sky(t)], [t for t in scene.things if in_sky(t)]


def is_aloft(thing: Thing) -> bool:
    """True for kinds that fly or hover (a held one is described with its holder instead)."""
    return KINDS[thing.kind].where == "air"


def notable_size(thing: Thing) -> str | None:
    """small | large if the facts say so and the drawn height agrees, else None."""
    share = thing.height / KINDS[thing.kind].height
    if thing.size == "large" and share >= LARGE:
        return "large"
    if thing.size == "small" and share <= SMALL and not in_sky(thing):
        return "small"
    return None


def in_a_row(scene: Scene) -> list[Thing]:
    """What a caption lists from left to right: the first thing of each unit on the ground, at least two.

    Empty if two of them are in one tenth of the picture's width, so that their order is hard to see.
    """
    lower = [unit[0] for unit in units(scene) if not in_sky(unit[0]) and not is_aloft(unit[0])]
    apart = all(one.column < other.column for one, other in pairwise(lower))
    return lower if len(lower) > 1 and apart else []


def clear_side(thing: Thing) -> bool:
    """True if left, middle or right is unambiguous."""
    return all(abs(thing.x - line) >= EDGE for line in SIDE_LINES)
