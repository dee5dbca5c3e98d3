"""The gallery of a study: test pictures, each with what every arm answers about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from dataset.bad_rows import BadImage, BadRows, DataError
from dataset.formats.sources import read_records
from dataset.htmlpage import Entry, escape, picture_element
from dataset.picturebook.facts import Scene
from scoring.answer_file import Row
from scoring.bars import ANY, WORST_HIGH, error_tags, sort_values
from scoring.entries import merged
from scoring.metrics import SampleScores
from scoring.page import answer_lines, preview, told_facts
from tools.compare import SIDE, picture_of, scene_of

PICTURES = 60  # of a page, the first
DIFFER = "arms differ"
FALSE = "false statements"
OPEN = 4  # questions that are not folded
FORM = ("loops", "cut off")  # errors of an answer that leave what it says right
STYLE = """
.study .pictures{position:sticky;top:.5rem;align-self:flex-start}
.arms{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:.6rem 1.4rem}
.arms section{border-left:3px solid var(--line);padding-left:.7rem;min-width:0} .asked{margin:.6rem 0 .3rem}
@media(max-width:640px){.study .pictures{position:static}}
"""

Asked = Mapping[str, Row]  # one prompt about a picture: arm -> its answer


def gallery(answers: Mapping[str, Sequence[Row]], data: str = "") -> Iterator[Entry]:
    """An entry for each of the first pictures, of the arms' answers, which are in the same order, else DataError.

    data: the file that the pictures are rows of, where they are no files and no scenes.
    """
    about: dict[str, list[Asked]] = defaultdict(list)
    for rows in zip(*answers.values(), strict=True):
        if len({(row["picture"], row["prompt"]) for row in rows}) > 1:
            found = f"{rows[0]['picture']}: {rows[0]['prompt']}"
            raise DataError(f"not every arm was asked {found!r}; expected all arms scored on the same, in one order")
        about[rows[0]["picture"]].append(dict(zip(answers, rows, strict=True)))
    shown = dict(list(about.items())[:PICTURES])
    firsts = {name: next(iter(asked[0].values())) for name, asked in shown.items()}
    stored = stored_pictures({name for name, row in firsts.items() if not scene_of(name) and "path" not in row}, data)
    for name, asked in shown.items():
        scene = scene_of(name)
        yield picture_entry(name, asked, scene, stored.get(name) or picture_of(firsts[name], scene))


def stored_pictures(names: Collection[str], data: str) -> dict[str, Image.Image]:
    """The pictures of the rows so named of a data file, as far as they can be read."""
    found: dict[str, Image.Image] = {}
    if not names or not data:
        return found
    try:
        for record in read_records(data, bad=BadRows(1.0)):
            if record.id in names and record.images:
                found[record.id] = preview(record.images[0], SIDE)
            if len(found) == len(names):
                break
    except (BadImage, DataError):  # a gallery without them is one all the same
        pass
    return found


def picture_entry(name: str, asked: Sequence[Asked], scene: Scene | None, picture: Image.Image | None) -> Entry:
    """A picture with its facts; below, what each arm says to each prompt, arms that say the same together."""
    told = [one for one in asked if "cider_d" in some(one)["scores"] or judged(some(one)["scores"])]
    questions = [one for one in asked if one not in told]
    lines = [f"<h3>{escape(name)}</h3>"]
    if scene is not None:
        lines.append(told_facts(scene, some(asked[0])["answer"]))
    for one in told:
        lines += [*prompt_lines(some(one)), '<div class="arms">']
        lines += [answer_part(arms, one[arms[0]], scene) for arms in alike(one)]
        lines.append("</div>")
    lines += question_lines(questions)
    element = picture_element(picture, name)
    inside = f'<div class="pictures">{element}</div>' if element else ""
    return Entry(f"{inside}<div>{''.join(lines)}</div>", tags_of(asked), values_of(asked), "study")


def some(asked: Asked) -> Row:
    return next(iter(asked.values()))


def judged(scores: SampleScores) -> bool:
    """Whether an answer was judged by its statements."""
    return "statement_accuracy" in scores


def alike(asked: Asked) -> list[list[str]]:
    """The arms, those with the same answer together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for arm, row in asked.items():
        groups[row["answer"]].append(arm)
    return list(groups.values())


def prompt_lines(row: Row) -> list[str]:
    references = "".join(f"<br>reference: {escape(one)}" for one in row["references"])
    return [f'<p class="faint asked">{escape(row["prompt"])}{references}</p>']


def answer_part(arms: Sequence[str], row: Row, scene: Scene | None) -> str:
    """One answer under the names of its arms, with how much of it is false."""
    lines = answer_lines(row["answer"], scene if judged(row["scores"]) else None, "", row["references"])
    return f"<section><h3>{escape(' · '.join(arms))}</h3>{verdict(row['scores'])}{''.join(lines)}</section>"


def verdict(scores: SampleScores) -> str:
    """What the scores of one answer come to, in a line."""
    told, wrong = [], [tag for tag in error_tags(scores) if tag not in (ANY, *FORM)]
    true, decided = scores.get("statement_accuracy", (0, 0))
    if judged(scores):
        told.append(f"{decided - true:.0f} of {decided:.0f} statements false" if decided else "no statement")
    elif "cider_d" in scores:
        told.append(f"CIDEr-D {scores['cider_d'][0] / scores['cider_d'][1]:.2f}")
        wrong = []
    told += [tag for tag in error_tags(scores) if tag in FORM]
    sign, css = ("✗", "bad") if wrong else ("✓", "good") if decided else ("", "faint")
    return f'<p class="{css}"><small>{sign} {escape(", ".join(told))}</small></p>'


def question_lines(questions: Sequence[Asked]) -> list[str]:
    """Questions with the answers of the arms; those that all arms answer right are folded."""
    shown, folded = [], []
    for asked in questions:
        row = some(asked)
        wanted = f" (expected: {escape(' / '.join(row['references']))})" if row["references"] else ""
        answers = "".join(
            f'<li class="{"bad" if wrong else "good"}">{"✗" if wrong else "✓"} {escape(asked[arms[0]]["answer"])} '
            f'<span class="faint">{escape(" · ".join(arms))}</span></li>'
            for arms in alike(asked) for wrong in [bool(error_tags(asked[arms[0]]["scores"]))]
        )  # fmt: skip
        line = f'<section>{escape(row["prompt"])}{wanted}<ul class="errors">{answers}</ul></section>'
        (shown if any(error_tags(one["scores"]) for one in asked.values()) else folded).append(line)
    parts = []
    for told, lines in (("wrong by some arm", shown), ("right by all arms", folded)):
        state = " open" if lines is shown and len(shown) <= OPEN else ""
        head = f'<details{state}><summary class="faint">questions answered {told}: {len(lines)}</summary>'
        parts += [head, f'<div class="arms">{"".join(lines)}</div></details>'] if lines else []
    return parts


def tags_of(asked: Sequence[Asked]) -> tuple[str, ...]:
    """What an entry is filtered by: whether the arms differ, whether any errs, which arms do, and in what."""
    tags = [DIFFER] if any(len(alike(one)) > 1 for one in asked) else []
    kinds = merged([row for one in asked for row in one.values()])
    tags += [ANY] if kinds else []
    tags += [f"{arm}: {ANY}" for arm in asked[0] if merged([one[arm] for one in asked])]
    return (*tags, *kinds[1:])


def values_of(asked: Sequence[Asked]) -> dict[str, float]:
    """What entries are sorted by: false statements of all and of each arm, and the means of the arms' scores."""
    values: dict[str, float] = {}
    for arm in asked[0]:
        pairs = [one[arm]["scores"]["statement_accuracy"] for one in asked if judged(one[arm]["scores"])]
        if pairs:
            values[f"{FALSE}: {arm}"] = float(sum(decided - true for true, decided in pairs))
    values = {FALSE: sum(values.values()), **values} if values else {}
    means: dict[str, list[float]] = defaultdict(list)
    for row in (row for one in asked for row in one.values()):
        for name, value in sort_values(row["scores"]).items():
            means[name].append(value)
    return values | {name: float(np.mean(some)) for name, some in means.items()}


def worst_high(arms: Sequence[str]) -> tuple[str, ...]:
    """The values of which a high one is bad."""
    return (*WORST_HIGH, FALSE, *(f"{FALSE}: {arm}" for arm in arms))
