"""A talk, a map and a picture as HTML. Everything that is not ours is escaped."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from PIL import Image

from dataset.htmlpage import data_uri
from dataset.picturebook.captions_en import NUMBERS, SIDES
from dataset.picturebook.facts import KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import clear_side, in_sky, notable_size
from dataset.pictures import open_picture
from dataset.preprocess import PreprocessSpec, resize_and_crop
from dataset.record import Picture
from engine.attribution import WordMap
from scoring.contradictions import contradictions
from scoring.page import facts_line, judged_parts
from tokenizer.tokenizer import Tokenizer
from tools.web.talk import Said, Side, Talk, Word, words_of

SHOWN = 512  # pixels of a side of a picture on the page
LEGEND = (
    '<p class="legend">By the facts of the scene: <mark class="right">true</mark> <mark class="wrong">false</mark> '
    '<mark class="open">undecided</mark></p>'
)
LIMITS = (
    "Integrated gradients of the word's log-probability on the encoder's features, from those of the blanked picture "
    "to those of this one. Orange speaks for the word, blue against it. It is an approximation, not what the model "
    "“looked at”: the encoder's attention carries what is in one place to others, and two places of which either "
    "suffices share the gain. The sum of the map and the gain should agree; where they do not, trust it less."
)


def talk_html(talk: Talk, tokenizers: dict[str, Tokenizer], picked: tuple[int, int, int] | None = None) -> str:
    """The talk so far, side by side; of whole answers every word is a button whose data-at names (side, answer, word).

    picked: the word whose map is shown.
    """
    rows = []
    for number, prompt in enumerate(talk.asked):
        answers = []
        for place, side in enumerate(talk.sides):
            if number < len(side.said):
                chosen = picked[2] if picked and picked[:2] == (place, number) else None
                at = f"{place},{number}"
                answers.append(_answer(side, side.said[number], talk, tokenizers[side.run], at, chosen))
        rows.append(f'<p class="asked">{html.escape(prompt)}</p><div class="answers">{"".join(answers)}</div>')
    legend = LEGEND if talk.scene is not None and rows else ""
    hint = '<p class="legend">Choose a word to see where in the picture it came from.</p>' if _has_words(talk) else ""
    return f'<div class="talk" aria-live="polite">{"".join(rows)}{legend}{hint}</div>'


def _has_words(talk: Talk) -> bool:
    return any(said.done and said.ids for side in talk.sides for said in side.said)


def _answer(side: Side, said: Said, talk: Talk, tokenizer: Tokenizer, at: str, chosen: int | None) -> str:
    words = words_of(tokenizer, said.ids) if said.done else []
    lines = [f"<h3>{html.escape(side.run)}</h3>"]
    text = answer_html(said.text, words, talk.scene, at, chosen)
    lines.append(f'<p class="said">{text or "…" if not said.done or said.text.strip() else "<i>(empty)</i>"}</p>')
    if said.done and talk.scene is not None:
        lines += [f'<p class="itself">contradicts itself: {html.escape(one)}</p>' for one in contradictions(said.text)]
    if said.error:
        lines.append(f'<p class="itself">{html.escape(said.error)}; the question is left out</p>')
    if side.note:
        lines.append(f'<p class="note">⚠ {html.escape(side.note)}</p>')
    lines.append(f'<p class="speed">{speed(said)}</p>')
    return f'<article class="answer">{"".join(lines)}</article>'


def answer_html(text: str, words: list[Word], scene: Scene | None, at: str, chosen: int | None = None) -> str:
    """An answer whose words are buttons, its statements marked where the facts are known."""
    judged = list(judged_parts(text, scene)) if scene is not None else [(0, len(text), "", "")]
    edges = {0, len(text), *(edge for one in judged for edge in one[:2])}
    edges |= {edge for word in words for edge in (word.start, word.end)}
    ordered, out = sorted(edges), []
    for start, end in pairwise(ordered):
        part = html.escape(text[start:end])
        number = next((i for i, word in enumerate(words) if word.start <= start and end <= word.end), None)
        if number is not None:
            name = "word chosen" if number == chosen else "word"
            part = f'<button type="button" class="{name}" data-at="{at},{number}">{part}</button>'
        verdict, title = next(one[2:] for one in judged if one[0] <= start and end <= one[1])
        if verdict:
            part = f'<mark class="{verdict}" title="{html.escape(title, quote=True)}">{part}</mark>'
        out.append(part)
    return "".join(out)


def speed(said: Said) -> str:
    """The latency of the first token, tokens a second after it, and their number."""
    if said.first is None:
        return "stopped" if said.stopped else "" if said.done else "waiting for the first token"
    parts = [f"first token {said.first:.2f} s"]
    if said.rate is not None:
        parts.append(f"{said.rate:.0f} tokens/s")
    parts.append(f"{len(said.ids)} tokens")
    if said.cut:
        parts.append("cut off at the limit of tokens")
    if said.stopped:
        parts.append("stopped")
    if said.waited > 0.1:
        parts.append(f"waited {said.waited:.1f} s for other answers")
    return " · ".join(parts)


def picture_html(picture: Picture, name: str, scene: Scene | None, english: bool) -> str:
    """The picture, its name and its facts; BadImage where it cannot be read."""
    image = open_picture(picture, SHOWN)
    told = ""
    if scene is not None:
        facts = english_facts(scene) if english else facts_line(scene)
        told = f'<p class="legend">Facts: {html.escape(facts)}</p>'
    shown = html.escape(name, quote=True)
    return f'<figure class="picture"><img alt="{shown}" src="{data_uri(image, SHOWN, 88)}">' \
           f"<figcaption>{shown}</figcaption>{told}</figure>"  # fmt: skip


def english_facts(scene: Scene) -> str:
    """The facts on one line: by the sea · two dogs, brown, on the left, running · sun, in the sky."""

    def told(thing: Thing) -> str:
        kind = KINDS[thing.kind]
        name = kind.en if thing.count == 1 else f"{NUMBERS[thing.count]} {kind.en_plural}"
        side = "in the sky" if in_sky(thing) else SIDES[thing.side] + ("" if clear_side(thing) else " (?)")
        return ", ".join(part for part in (name, thing.colour, side, thing.action, notable_size(thing)) if part)

    parts = [PLACES[scene.place].en, *map(told, scene.things)]
    if scene.relation:
        subject, other = (scene.things[i].kind for i in (scene.relation.subject, scene.relation.object))
        parts.append(f"{KINDS[subject].en} {scene.relation.name} {KINDS[other].en}")
    return " · ".join(parts)


def map_html(made: WordMap, picture: Picture, spec: PreprocessSpec, word: str, run: str, blind: Said | None) -> str:
    """The map of a word over the picture, its figures and limits, and the same answer with the picture blanked."""
    image = overlay(seen(picture, spec), made.cells[0].numpy())
    figures = (
        f"probability {_share(made.seeing)}, with the picture blanked {_share(made.blanked)}: the picture adds "
        f"{made.gain:+.2f} to the log-probability, the map sums to {float(made.cells.sum()):+.2f}"
    )
    shown = html.escape(word)
    lines = [
        f'<figure class="picture"><img alt="map of {html.escape(word, quote=True)}" src="{data_uri(image, SHOWN, 88)}">'
        f"<figcaption>“{shown}”, by {html.escape(run)}</figcaption></figure>",
        f'<div><p class="figures">{figures}.</p>',
    ]
    if blind is not None:
        text = html.escape(blind.text) or ("…" if not blind.done else html.escape(blind.error) or "<i>(empty)</i>")
        lines.append(f'<h3>The same question, the picture blanked</h3><p class="said">{text}</p>')
        lines.append(f'<p class="speed">{speed(blind)}</p>')
    lines.append(f'<p class="legend">{LIMITS}</p></div>')
    return f'<div class="map">{"".join(lines)}</div>'


def _share(log_probability: float) -> str:
    share = math.exp(log_probability)
    return f"{share:.2f}" if share >= 0.05 else f"{share:.2g}"


def seen(picture: Picture, spec: PreprocessSpec) -> Image.Image:
    """The part of the picture that the encoder sees, at a size to look at."""
    times = max(round(SHOWN / max(spec.shape)), 1)
    size = spec.size * times if isinstance(spec.size, int) else (spec.size[0] * times, spec.size[1] * times)
    crop = None if spec.crop is None else (spec.crop[0] * times, spec.crop[1] * times)
    return resize_and_crop(open_picture(picture, max(spec.shape) * times), replace(spec, size=size, crop=crop))


def overlay(image: Image.Image, cells: np.ndarray) -> Image.Image:
    """A gray picture under a map (h, w), smoothed: orange above 0, blue below, by the share of the largest."""
    largest = float(np.abs(cells).max())
    scaled = Image.fromarray((cells / largest if largest else cells).astype(np.float32))
    heat = np.asarray(scaled.resize(image.size, Image.Resampling.BICUBIC))[..., None].clip(-1, 1)
    gray = np.asarray(image.convert("L").convert("RGB"), np.float32) * 0.75 + 40
    colour = np.where(heat > 0, np.float32((245, 130, 20)), np.float32((40, 110, 220)))
    weight = np.abs(heat) ** 0.7 * 0.8
    return Image.fromarray((gray * (1 - weight) + colour * weight).clip(0, 255).astype(np.uint8))
