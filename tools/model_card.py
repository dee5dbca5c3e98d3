"""The README.md of a published run: what the model is, its scores, how it was trained, its limits, how it is loaded."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset.curation.quality import is_chinese
from engine.build import Trained
from engine.checkpoint import Run
from engine.freeze import count_parameters
from model.checkpoints import read_json
from model.checkpoints.files import refusing
from scoring.controls import HEADLINES, control_table, warnings
from scoring.report import aligned, cell, score_table

# metric -> what it measures of saying what is not there, in words around its value
HALLUCINATION = {
    "chair_i": "CHAIR-i, the share of the things it mentions that are not in the picture: {}",
    "contradiction_share": "captions that contradict themselves: {}",
    "caption_true_share": "captions in which every statement is true: {}",
    "pope_accuracy/adversarial": "POPE, adversarial: accuracy {}",
    "pope_yes_rate/adversarial": "POPE, adversarial: it says yes to {} (half would be right)",
    "loop_share": "answers that end in a loop: {}",
}  # fmt: skip
SHOWN = ("optimizer", "weight_decay", "warmup_ratio", "augment", "train", "max_seq_len", "seed")
LANGUAGES = {"zh": "Chinese", "en": "English"}


@dataclass(frozen=True)
class Scores:
    """A file of eval_vlm.py --scores: its name without .json, and what it holds."""

    file: str
    content: dict

    @property
    def title(self) -> str:
        """What was scored: the split or the data file of the command, else the file's name."""
        words = shlex.split(str(self.content.get("command", "")))
        for flag in ("--split", "--data"):
            if flag in words[:-1]:
                return words[words.index(flag) + 1]
        return f"[eval] of {words[words.index('--recipe') + 1]}" if "--recipe" in words[:-1] else self.file


@dataclass(frozen=True)
class Card:
    """What the publisher says of a model, beside what its run tells."""

    name: str
    license: str
    datasets: tuple[str, ...]
    languages: tuple[str, ...]
    scores: list[Scores]
    no_llava: str  # why there is no LLaVA; "" where there is one


def languages_of(trained: Trained) -> list[str]:
    """zh, en or both: the picture book's share, on other data the script of its first sample; [] if unknown."""
    settings = trained.settings
    if not settings.get("data"):
        share = float(settings.get("english", 0.0))
        return ["zh"] * (share < 1) + ["en"] * (share > 0)
    return ["zh" if is_chinese(one.get("reference") or one["prompt"]) else "en" for one in samples_of(trained)[:1]]


def samples_of(trained: Trained) -> list[dict]:
    """What its run kept of samples: prompts, and mostly references and answers."""
    file = trained.path / "samples.json"
    with refusing(file):
        return [dict(one) for one in read_json(file)["samples"]] if file.is_file() else []


def model_card(trained: Trained, card: Card, runs: list[Run]) -> str:
    """The card's text. runs: those that made the model, the first one first."""
    parts = [header(card), f"# {card.name}", what_it_is(trained, card), "## Use", use(trained, card), "## Scores",
             scores(card), "## Training", training(runs), "## Limits", limits(trained, card), "## Files", FILES]
    return "\n\n".join(parts) + "\n"


FILES = """`model.safetensors` holds the language model, the projector and the image encoder in fp32, `config.json`
their sizes, `tokenizer.json` and `preprocessor_config.json` what goes before them; `run.json`, `log.jsonl` and
`loss.png` are of the last training run. `sha256sum -c SHA256SUMS` checks every file. No file is a pickle."""


def header(card: Card) -> str:
    """The YAML that a hub reads."""
    lines = [f"license: {card.license}"] if card.license else []
    for key, values in (("language", card.languages), ("datasets", card.datasets)):
        lines += [f"{key}:", *(f"- {value}" for value in values)] if values else []
    lines += ["library_name: glimpse", "pipeline_tag: image-text-to-text", "tags:", "- glimpse",
              "- vision-language-model", "- image-captioning"]  # fmt: skip
    return "\n".join(["---", *lines, "---"])


def what_it_is(trained: Trained, card: Card) -> str:
    model, config = trained.model, trained.model.config
    count = {part: sum(numbers) for part, numbers in count_parameters(model).items()}
    lm, vision = config.lm, trained.encoder.module.config
    spoken = " and ".join(LANGUAGES.get(name, name) for name in card.languages) or "the language of its data"
    licence = f"Licence: {card.license}." if card.license else "Licence: its publisher has stated none."
    return f"""A small vision-language model, trained with Glimpse. It describes a picture, and answers questions about
one, in {spoken}. {licence}

{aligned([
    ["part", "parameters", "what"],
    ["image encoder", f"{count['vision']:,}", f"{vision.num_hidden_layers} layers, {vision.hidden_size} wide, pictures "
     f"of {vision.image_size} pixels in patches of {vision.patch_size}"],
    ["projector", f"{count['projector']:,}", f"{config.projector.kind if config.projector else ''}, a picture takes "
     f"{model.image_tokens} tokens"],
    ["language model", f"{count['llm']:,}", f"{lm.num_hidden_layers} layers, {lm.hidden_size} wide, {lm.vocab_size:,} "
     f"tokens, {lm.max_position_embeddings:,} positions"],
], markdown=True)}"""  # fmt: skip


def use(trained: Trained, card: Card) -> str:
    llava = (
        "The same model for Hugging Face transformers, without code of ours, is in `llava/`; its "
        "[README](llava/README.md) says how to load it and what differs."
    )
    if card.no_llava:
        llava = f"There is no Hugging Face LLaVA of this model: {re.split('[.;:] [Tt]rain ', card.no_llava)[0]}."
    return f"""With Glimpse installed (`pip install .` in its repository; in a clone `python eval_vlm.py` is the same as
`glimpse eval`), and this folder at FOLDER:

```bash
glimpse eval --weights FOLDER --image photo.jpg          # describe a picture; --chat talks about it
glimpse train sft --stage 1 --from FOLDER --data FILE --images DIR     # train it further
```

In Python, from a clone of Glimpse:

```python
from pathlib import Path

from tools.harness.answers import load_answerer

model = load_answerer("FOLDER")
print(model.answer([[Path("photo.jpg"), {prompt_of(trained)}]])[0])
```

{llava}"""


def prompt_of(trained: Trained) -> str:
    """A prompt that it was trained on, or one that suits, as Python writes it."""
    found = [one["prompt"].replace("<image>", "").strip() for one in samples_of(trained)[:1]]
    return json.dumps(found[0] if found else "描述一下这个图像的内容。", ensure_ascii=False)


def scores(card: Card) -> str:
    """A table for each file of scores; says so where there is none."""
    if not card.scores:
        return "None: this model was published without having been scored. Do not expect anything of it until it is."
    text = []
    for one in card.scores:
        metrics = one.content["metrics"]
        table = score_table({one.title: metrics}, markdown=True)
        beside = control_table(metrics)
        text.append(
            f"{one.title}, {one.content.get('n', '?')} scored, greedy unless the command says otherwise, 95% bootstrap "
            f"intervals in brackets (`{one.file}.json`):\n\n{table}\n\n`{one.content.get('command', '')}`"
            + (f"\n\nBeside what answers earn that have not seen the picture:\n\n```\n{beside}\n```" if beside else "")
        )
    return "\n\n".join(text)


def training(runs: list[Run]) -> str:
    """A row for each run, then the settings of the last one."""
    rows = [["run", "data", "samples", "steps", "batch", "peak rate", "val. loss", "minutes"]]
    for run in runs:
        settings, done, facts = run.record()["settings"], run.summary(), run.facts()
        samples = (facts.get("samples, tokens, supervised") or ["?"])[0]
        rate = f"{settings.get('learning_rate')}" + (f", {rates}" if (rates := settings.get("learning_rates")) else "")
        loss = done.get("val_loss")
        rows.append([
            run.path.name, data_of(settings), f"{samples:,}" if isinstance(samples, int) else samples,
            f"{done.get('steps', 0):,}", str(settings.get("token_budget") or settings.get("batch_size")), rate,
            "" if loss is None else f"{loss:.3f}", f"{done.get('seconds', 0) / 60:.0f}",
        ])  # fmt: skip
    record = runs[-1].record()
    settings, used = record["settings"], record.get("arithmetic", {})
    shown = [f"{name} {settings[name]}" for name in SHOWN if settings.get(name) not in ("", None)]
    shown += [f"on {used.get('device')} in {used.get('dtype')} with torch {used.get('torch')}"] if used else []
    text = [aligned(rows, markdown=True), f"The last run: {', '.join(shown)}. All settings are in `run.json`."]
    folder = str(runs[-1].facts().get("vision", {}).get("folder", ""))
    if not any(run.path == Path(folder) for run in runs) and not (runs[-1].path / "preprocessor_config.json").is_file():
        named = f"that of `{Path(folder).name}`" if folder else "the one that ships with Glimpse"
        text.append(f"The image encoder is {named}, and was frozen.")
    first = next((run for run in runs if run.facts().get("vision")), runs[-1])  # the first that sees
    llm = first.record()["settings"].get("llm") or first.record()["settings"].get("from_run")
    if first.record()["settings"].get("stage"):
        named = f"`{Path(llm).name}`, of whose training" if llm else "a run of which"
        text.append(f"`{first.path.name}` began from {named} no record was at hand.")
    elif not any(run.path.name == "lm" or llm and run.path == Path(llm) for run in runs):
        named = f"`{Path(llm).name}`" if llm else "the one that ships with Glimpse"
        text.append(f"The language model began as {named}.")
    return "\n\n".join(text)


def data_of(settings: Mapping[str, object]) -> str:
    """What a run was trained on, without folders."""
    if not settings.get("data"):
        share = float(str(settings.get("english", 0.0)))
        return "Glimpse's drawn picture book" + (f", {share:.0%} English" if 0 < share < 1 else "")
    return ", ".join(part.rpartition("/")[2] for part in str(settings["data"]).split(","))


def limits(trained: Trained, card: Card) -> str:
    """What was measured of seeing and of saying what is not there, then what holds of every such model."""
    lines = [line for one in card.scores for line in measured(one)]
    if not card.scores:
        lines.append("**Nothing was measured.** Whether its answers depend on the picture at all is not known.")
    elif not any(name in one.content["metrics"] for one in card.scores for name in ("chair_i", "contradiction_share")):
        lines.append("**Hallucination was not measured**: the data it was scored on has references, and no list of "
                     "what is in a picture.")  # fmt: skip
    settings = trained.settings
    if not settings.get("data"):
        lines.append("It knows Glimpse's drawn world and nothing else: of a photograph it says fluently what is not "
                     "there.")  # fmt: skip
    if (trained.path / "familiar.safetensors").is_file():
        lines.append("`glimpse eval` says so below a picture that is unlike those it was trained on.")
    million = sum(parameter.numel() for parameter in trained.model.parameters()) / 1e6
    lines.append(f"With {million:.0f} million parameters it can be wrong in fluent sentences. Do not use it where a "
                 "wrong statement does harm.")  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def measured(one: Scores) -> list[str]:
    """What one file of scores says of seeing and hallucination."""
    metrics, lines = one.content["metrics"], []
    for name in HEADLINES:
        if f"blank_{name}" in metrics and name in metrics:
            gain = f"gain_over_blank/{name}"
            seen = f"; seeing brings {cell(metrics, gain)}" if gain in metrics else ""
            blind = cell(metrics, f"blank_{name}")
            lines.append(f"{one.title}, {name}: {cell(metrics, name)} with the picture, {blind} with it blanked{seen}.")
    if not any("blanked" in line for line in lines):
        lines.append(f"{one.title}: not scored with the picture blanked, so what guessing earns is not known.")
    found = [name for name in HALLUCINATION if name in metrics]
    lines += [f"{one.title}, {HALLUCINATION[name].format(cell(metrics, name))}." for name in found]
    advice = ": "  # begins what is said to who trains
    return lines + [f"{one.title}: **{text.split(advice)[0]}.**" for text in warnings(metrics)]
