"""A run as a folder ready for a model hub: python -m tools.publish RUN OUT

OUT holds the weights with the encoder's, the tokenizer, a card with scores, data, settings and limits, checksums, and
where LLaVA can express the model the same as a Hugging Face LLaVA in OUT/llava. Nothing is uploaded. OUT is a run that
eval_vlm.py --weights and train_sft.py --from take, wherever it lies; folders of this machine are left out of it.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from engine.arguments import UsageError
from engine.build import Trained, load_trained
from engine.checkpoint import Run, RunError
from engine.command import guarded
from engine.console import Parser, spelled
from engine.familiar import FILE as FAMILIAR
from model.checkpoints import WeightsError, fingerprint, read_json, save_vlm, write_json
from tokenizer.tokenizer import TokenizerError
from tools.export_llava import export
from tools.model_card import Card, Scores, languages_of, model_card

PATHS = ("data", "images", "val_data", "vision", "llm", "tokenizer", "from_run")  # settings that name files or folders
KEPT = (FAMILIAR, "log.jsonl", "loss.png", "finished.json")  # of the run, as they are
CHECKSUMS = "SHA256SUMS"
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")  # of a licence, a language, or a data set on a hub


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("out", type=Path, help="the folder to write, new or empty")
    parser.add_argument("--vision", default="", metavar="DIR", help="where the run's encoder is, if it was moved")
    parser.add_argument("--name", default="", help="what the card calls the model (default: the run's folder)")
    parser.add_argument("--license", default="", metavar="ID", help="licence of the weights, as apache-2.0 (default: "
                        "none is stated, as that of your data decides)")  # fmt: skip
    parser.add_argument("--datasets", default="", metavar="ID,...", help="data sets on the hub that it was trained on")
    parser.add_argument("--language", default="", metavar="ID,...", help="languages (default: those of its answers)")
    parser.add_argument("--scores", default="", metavar="FILE,...", help="files of eval_vlm.py --scores (default: "
                        "scores*.json of this run, in its folder or the one above)")  # fmt: skip
    args = parser.parse_args(argv)
    for flag in ("license", "datasets", "language"):
        for name in filter(None, getattr(args, flag).split(",")):
            if not NAME.fullmatch(name):
                parser.error(f"--{flag} {name}: expected an identifier, as apache-2.0, zh or owner/data")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    path, out = Path(args.run), args.out
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is not an empty folder; choose another, or delete it")
    if path.is_file():
        raise UsageError(f"{path}: found a file, expected the folder of a run; train further from it, as python "
                         f"train_sft.py --stage 3 --from {path} does, and publish that")  # fmt: skip
    run = Run(path)
    run.record()
    if not run.is_finished():
        raise RunError(f"{path}: this run is not finished; repeat its command, which resumes it, then publish")
    scores = find_scores(path, args.scores)
    trained = load_trained(path, args.vision, fast="off")
    out.resolve().parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f"{out.name}-", dir=out.resolve().parent))
    new.chmod(0o755)
    try:
        refused = write(trained, new)
        chosen = args.language.split(",") if args.language else languages_of(trained)
        listed = tuple(filter(None, args.datasets.split(",")))
        card = Card(args.name or path.resolve().name, args.license, listed, tuple(chosen), scores, refused)
        (new / "README.md").write_text(model_card(trained, card, history(trained, args.vision)), encoding="utf-8")
        for one in scores:
            write_json(new / f"{one.file}.json", one.content)
        if fingerprint(load_trained(new, fast="off").model) != fingerprint(trained.model):
            raise WeightsError(f"{new}: what was written differs from {path}; check the disk and try again")
        (new / CHECKSUMS).write_text(checksums(new), encoding="utf-8")
        if out.is_dir():
            out.rmdir()
        os.replace(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(f"LLaVA export: {f'left out, as {refused}' if refused else f'{out}/llava, for transformers'}")
    none = f"none found for this run, and the card says so; python eval_vlm.py --weights {path} --scores " \
           f"{path}/scores.json makes some, with --split test or --data FILE"  # fmt: skip
    print(spelled(f"scores: {', '.join(one.title for one in scores) or none}"))
    if not args.license:
        print("licence: none stated; give --license ID (what was made from Glimpse's own picture book alone may be "
              "apache-2.0)")  # fmt: skip
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(spelled(f"{out}: {size / 1e6:.1f} MB; python eval_vlm.py --weights {out} loads it; read its README.md before "
                  "you upload it"))  # fmt: skip


def write(trained: Trained, out: Path) -> str:
    """Weights, tokenizer and what a run keeps, and the LLaVA; returns why there is none, or ""."""
    save_vlm(out, trained.model, with_vision=True)
    write_json(out / "preprocessor_config.json", trained.encoder.spec.to_settings())
    trained.tokenizer.save(out)
    for name in KEPT:
        if (trained.path / name).is_file():
            shutil.copyfile(trained.path / name, out / name)
    write_json(out / "run.json", without_folders(Run(trained.path).record()))
    if (trained.path / "samples.json").is_file():  # the first prompt is that of eval_vlm.py; answers may be private
        prompts = [{"prompt": one["prompt"]} for one in read_json(trained.path / "samples.json")["samples"][:1]]
        write_json(out / "samples.json", {"samples": prompts})
    try:
        export(trained, out / "llava")
    except WeightsError as error:
        shutil.rmtree(out / "llava", ignore_errors=True)
        return str(error)
    return ""


def without_folders(record: dict) -> dict:
    """A run.json with the names of files and no folders; its encoder is beside it."""
    settings, facts = dict(record.get("settings", {})), dict(record.get("facts", {}))
    settings |= {name: re.sub(r"[^,]*[/\\]", "", settings[name]) for name in PATHS if settings.get(name)}
    if isinstance(facts.get("vision"), dict):
        facts["vision"] = facts["vision"] | {"folder": ""}
    return record | {"settings": settings, "facts": facts}


def history(trained: Trained, vision: str = "") -> list[Run]:
    """The run and those it was trained from, the first one first, as far as they are still there: the encoder's, the
    language model's, then each whose weights are those that the next one began with. vision: as of load_trained()."""
    runs = [Run(trained.path)]
    while before := start_of(runs[0], vision):
        runs.insert(0, before)
    first = runs[0].record()["settings"]
    parts = (runs[-1].facts().get("vision", {}).get("folder"), first.get("llm") or runs[0].path.parent / "lm")
    return [Run(Path(part)) for part in parts if part and is_run(Path(part))] + runs


def is_run(folder: Path) -> bool:
    """Whether a folder holds a finished run with its settings."""
    return (folder / "run.json").is_file() and Run(folder).is_finished()


def start_of(run: Run, vision: str) -> Run | None:
    """The run that a stage of SFT began with, if it is there and has the same weights."""
    settings, start = run.record()["settings"], run.facts().get("start")
    stage = settings.get("stage", 0)
    default = run.path.parent / (f"sft{stage - 1}" if stage > 1 else "pretrain")
    folder = Path(settings.get("from_run") or default)
    if not (stage and start and is_run(folder)) or folder.resolve() == run.path.resolve():
        return None
    try:
        same = fingerprint(load_trained(folder, vision, fast="off").model) == start
    except (RunError, WeightsError, TokenizerError):  # it, or its encoder, has changed since
        return None
    return Run(folder) if same else None


def find_scores(run: Path, named: str) -> list[Scores]:
    """The files of scores that were given, else those of this run; UsageError for one that is not of it."""
    given = [Path(name) for name in named.split(",") if name]
    found = given or sorted([*run.glob("scores*.json"), *run.resolve().parent.glob("scores*.json")])
    scores = []
    for file in found:
        content = read_json(file)
        if not isinstance(content.get("metrics"), dict):
            if given:
                raise UsageError(f"{file}: found no metrics in it, expected a file of eval_vlm.py --scores")
            continue
        of = Path(str(content.get("checkpoint", "")))
        if of.resolve() == run.resolve() or (file.parent == run and of.name == run.name):
            scores.append(Scores(file.stem, without_paths(content)))
        elif given:
            raise UsageError(f"{file}: these are the scores of {of}, not of {run}; score this run and give that file")
    return scores


def without_paths(content: dict) -> dict:
    """A file of scores with the names of files and no folders."""
    folders = re.compile(r"[^\s'\"=:,]*/")
    return content | {name: folders.sub("", str(content.get(name, ""))) for name in ("command", "checkpoint")}


def checksums(folder: Path) -> str:
    """A line for each file below a folder, as sha256sum writes and checks them."""
    lines = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as data:
            digest = hashlib.sha256()
            while block := data.read(1 << 20):
                digest.update(block)
        lines.append(f"{digest.hexdigest()}  {file.relative_to(folder).as_posix()}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
