"""The page: its layout, and what happens when something on it is used. Needs gradio."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset.bad_rows import BadImage, BadRow
from dataset.htmlpage import data_uri
from dataset.picturebook.facts import Scene
from dataset.picturebook.sft_scenes import sft_scenes
from dataset.picturebook.world import make_scene
from dataset.pictures import SUFFIXES, open_picture
from dataset.record import Picture
from engine.arguments import UsageError
from engine.attribution import word_map
from engine.checkpoint import Run
from engine.command import MENDABLE
from engine.inference import Decoding
from engine.looker import Looker
from tools.web.live import curves_html, head_html, state
from tools.web.models import Models, language_of, prompts_of
from tools.web.render import map_html, picture_html, talk_html
from tools.web.talk import COMPUTING, Side, Talk, blanked_reply, reply, words_of

EIGHT = Path(__file__).resolve().parents[2] / "sft_images"
ALONE = "(none)"
SECONDS = 3  # between two looks at a log
LONGEST = 2000  # characters of a question
CLICKED = """element.addEventListener('click', (event) => {
  const chosen = event.target.closest('[data-at]');
  if (chosen) trigger('pick', {at: chosen.dataset.at});
});"""


def build(models: Models, live: Run | None, uploads: Path) -> Any:
    """The page as gradio's Blocks; uploads: the folder that they come in, from which they are deleted once read."""
    import gradio as gr

    with gr.Blocks(title="Glimpse", analytics_enabled=False) as blocks:
        if not models.paths:
            assert live is not None
            _training(gr, live)
        elif live is None:
            _trying(gr, blocks, Acts(models, uploads))
        else:
            with gr.Tabs():
                with gr.Tab("Try"):
                    _trying(gr, blocks, Acts(models, uploads))
                with gr.Tab("Training"):
                    _training(gr, live)
    return blocks


def _training(gr: Any, run: Run) -> None:
    """The curves of a run, drawn anew when its log has changed."""
    seen = gr.State((0.0, 0))
    head = gr.HTML(head_html(run), elem_id="live")
    curves = gr.HTML(curves_html(run), elem_id="curves")

    def look(before: tuple[float, int]) -> tuple:
        now = state(run)
        return head_html(run), gr.skip() if now == tuple(before) else curves_html(run), now

    gr.Timer(SECONDS).tick(look, seen, [head, curves, seen], show_progress="hidden", api_visibility="private")


def _trying(gr: Any, blocks: Any, acts: Acts) -> None:
    names = list(acts.models.paths)
    for act in (Acts.pick, Acts.one_of_eight, Acts.suggested):
        act.__annotations__["event"] = gr.EventData  # by which gradio knows what to hand in
    first = acts.prompts(names[0])
    talk = gr.State(Talk())
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            picture = gr.HTML(elem_id="picture")
            eight = gr.HTML(acts.thumbnails(), js_on_load=CLICKED, elem_id="eight")
            scene = gr.Button("Random scene", size="sm", elem_id="scene")
            file = gr.File(label="Your own picture", file_types=list(SUFFIXES), height=120, elem_id="file")
        with gr.Column(scale=3, min_width=300):
            with gr.Row():
                run = gr.Dropdown(names, value=names[0], label="Model", elem_id="run")
                other = gr.Dropdown([ALONE, *names], value=ALONE, label="Side by side with", elem_id="other")
            said = gr.HTML(js_on_load=CLICKED, elem_id="talk")
            shown = gr.HTML(js_on_load=None, elem_id="map")
            prompt = gr.Textbox(first[0], label="Question", max_length=LONGEST, lines=1, max_lines=4, elem_id="prompt")
            chips = gr.HTML(_chips(first), js_on_load=CLICKED, elem_id="chips")
            with gr.Row():
                ask = gr.Button("Ask", variant="primary", min_width=80, elem_id="ask")
                stop = gr.Button("Stop", min_width=80, elem_id="stop")
                anew = gr.Button("Start over", min_width=80, elem_id="anew")
            with gr.Accordion("Sampling", open=False):
                sampling = [
                    gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0: greedy decoding"),
                    gr.Slider(0.05, 1, 1, step=0.05, label="Top p"),
                    gr.Slider(0.5, 2, 1, step=0.05, label="Repetition penalty"),
                    gr.Slider(1, 512, 256, step=1, label="Longest answer in tokens"),
                    gr.Number(42, label="Seed", precision=0, minimum=0),
                ]

    begun = [talk, picture, said, shown]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    asking = gr.on([ask.click, prompt.submit], acts.ask, [talk, prompt, *sampling], [talk, said, prompt],
                   trigger_mode="once", **quiet)  # fmt: skip
    mapping = said.pick(acts.pick, talk, [said, shown], **quiet)
    stop.click(acts.stop, talk, said, cancels=[asking, mapping], **quiet)
    ends: dict[str, Any] = {"cancels": [asking, mapping], **quiet}
    eight.pick(acts.one_of_eight, [run, other], begun, **ends)
    scene.click(acts.random_scene, [run, other], begun, **ends)
    file.upload(acts.upload, [file, talk, run, other], [*begun, file], **ends)
    anew.click(acts.again, [talk, run, other], begun, **ends)
    run.change(acts.switch, [talk, run, other], [*begun, prompt, chips], **ends)
    other.change(acts.again, [talk, run, other], begun, **ends)
    chips.pick(acts.suggested, run, prompt, **quiet)
    blocks.load(acts.first, [run, other], begun, **quiet)


def _chips(prompts: list[str]) -> str:
    buttons = (f'<button type="button" data-at="{i}">{html.escape(one)}</button>' for i, one in enumerate(prompts))
    return f'<div class="chips">{"".join(buttons)}</div>'


def numbers(event: Any, count: int) -> tuple[int, ...]:
    """The numbers in the data-at of what was clicked; gradio's Error for an event that was forged."""
    import gradio as gr

    told = str(event._data.get("at", "")) if isinstance(event._data, dict) else ""
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", told) or told.count(",") != count - 1:
        raise gr.Error("this is no place to choose", print_exception=False)
    return tuple(map(int, told.split(",")))


class Acts:
    """What the page does, by visitor: each has a Talk of its own, which the page hands in."""

    def __init__(self, models: Models, uploads: Path):
        self.models = models
        self.uploads = uploads.resolve()
        scenes = sft_scenes()
        files = sorted(EIGHT.glob("*.jpg")) if EIGHT.is_dir() else []
        self.eight: list[tuple[Path, Scene | None]] = [(path, scenes.get(path.stem)) for path in files]

    def looker(self, run: str) -> Looker:
        """The model of that name; what is wrong with it is told on the page."""
        import gradio as gr

        try:
            return self.models.get(run)
        except MENDABLE as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    def prompts(self, run: str) -> list[str]:
        return prompts_of(self.looker(run).trained)

    def suggested(self, run: str, event: Any) -> Any:
        prompts = self.prompts(run)
        (number,) = numbers(event, 1)
        return prompts[number] if number < len(prompts) else self._skip()

    def thumbnails(self) -> str:
        made = []
        for number, (path, _) in enumerate(self.eight):
            name = html.escape(path.stem, quote=True)
            image = f'<img alt="{name}" src="{data_uri(open_picture(path), 112, 80)}">'
            made.append(f'<button type="button" title="{name}" data-at="{number}">{image}</button>')
        return f'<div class="eight">{"".join(made)}</div>'

    def first(self, run: str, other: str) -> tuple:
        """What a visitor finds: the first of the eight pictures, or a scene."""
        return self._begin(*self._of_eight(0), run, other) if self.eight else self.random_scene(run, other)

    def one_of_eight(self, run: str, other: str, event: Any) -> tuple:
        (number,) = numbers(event, 1)
        return self._begin(*self._of_eight(min(number, len(self.eight) - 1)), run, other)

    def _of_eight(self, number: int) -> tuple[Path, Scene | None, str]:
        path, scene = self.eight[number]
        return path, scene, path.stem

    def random_scene(self, run: str, other: str) -> tuple:
        """A scene that no training has seen, with its facts."""
        number = random.randrange(1_000_000)
        scene = make_scene("test", number)
        return self._begin(scene, scene, f"test scene {number}", run, other)

    def upload(self, path: str | None, talk: Talk, run: str, other: str) -> tuple:
        """A visitor's own file, which is read and deleted; one that is no picture leaves the talk as it was."""
        if path is None or not Path(path).resolve().is_relative_to(self.uploads):  # gradio sees to it, too
            return (*[self._skip()] * 4, None)
        file = Path(path)
        content, name = file.read_bytes(), file.name
        file.unlink(missing_ok=True)
        try:
            open_picture(content)
        except BadImage as error:
            told = f'<p class="itself">{html.escape(name)}: {html.escape(str(error))}</p>'
            before = self._picture(talk, run) if talk.picture is not None else ""
            return talk, told + before, self._skip(), self._skip(), None
        return (*self._begin(content, None, name, run, other), None)

    def switch(self, talk: Talk, run: str, other: str) -> tuple:
        """Another model, with what it can be asked."""
        prompts = self.prompts(run)
        return (*self.again(talk, run, other), prompts[0], _chips(prompts))

    def again(self, talk: Talk, run: str, other: str) -> tuple:
        """The same picture, and nothing asked yet."""
        if talk.picture is None:
            return self.first(run, other)
        return self._begin(talk.picture, talk.scene, talk.name, run, other)

    def _begin(self, picture: Picture, scene: Scene | None, name: str, run: str, other: str) -> tuple:
        sides = [Side(run)] if other in (ALONE, run) else [Side(run), Side(other)]
        talk = Talk(picture, scene, name, sides)
        return talk, self._picture(talk, run), "", ""

    def _picture(self, talk: Talk, run: str) -> str:
        english = language_of(self.looker(run).trained) == "en"
        assert talk.picture is not None
        return picture_html(talk.picture, talk.name, talk.scene, english)

    def ask(
        self, talk: Talk, prompt: str, temperature: float, top_p: float, penalty: float, longest: float,
        seed: float | None,
    ) -> Iterator[tuple]:  # fmt: skip
        """Ask every side, one after the other, and show the answers as they grow."""
        prompt = prompt.strip()
        if not prompt or talk.picture is None:
            yield self._skip(), self._skip(), self._skip()
            return
        talk.asked.append(prompt)
        for side in talk.sides:
            looker = self.looker(side.run)
            decoding = Decoding(int(longest), 1, temperature, top_p, penalty, int(seed or 0), looker.decoding.dtype)
            for _ in reply(looker, side, talk.picture, prompt, decoding):
                yield talk, self._talk(talk), self._skip()
        yield talk, self._talk(talk), ""

    def stop(self, talk: Talk) -> str:
        """The talk with what has been said by now."""
        for side in talk.sides:
            for said in side.said:
                said.stopped = said.stopped or not said.done
                said.done = True
        return self._talk(talk)

    def pick(self, talk: Talk, event: Any) -> Iterator[tuple]:
        """The map of a word of an answer, then the same question with the picture blanked."""
        place, number, word = numbers(event, 3)
        side = talk.sides[place] if place < len(talk.sides) else None
        said = side.said[number] if side and number < len(side.said) else None
        if side is None or said is None or not said.done or talk.picture is None:
            yield self._skip(), self._skip()
            return
        looker = self.looker(side.run)
        words = words_of(looker.trained.tokenizer, said.ids)
        if word >= len(words):
            yield self._skip(), self._skip()
            return
        chosen = words[word]
        marked = self._talk(talk, (place, number, word))
        yield marked, '<p class="legend">computing the map …</p>'
        try:
            with COMPUTING:
                made = word_map(looker.trained, said.ask, said.ids, chosen.first, chosen.last, looker.decoding.dtype)
        except (BadRow, UsageError) as error:
            yield marked, f'<p class="itself">{html.escape(str(error))}</p>'
            return
        text, spec = said.text[chosen.start : chosen.end], looker.trained.encoder.spec
        decoding = replace(looker.decoding, max_new_tokens=max(len(said.ids), 64))
        for blind in blanked_reply(looker, said.ask, decoding):
            yield marked, map_html(made, talk.picture, spec, text, side.run, blind)

    def _talk(self, talk: Talk, picked: tuple[int, int, int] | None = None) -> str:
        return talk_html(talk, {side.run: self.looker(side.run).trained.tokenizer for side in talk.sides}, picked)

    @staticmethod
    def _skip() -> Any:
        import gradio as gr

        return gr.skip()
