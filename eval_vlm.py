"""Evaluate a trained model: caption a folder, chat about a picture, or score it on a data set."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from dataset.bad_rows import BadRows, DataError
from dataset.batching import pixel_loader
from dataset.formats.captions import default_subset
from dataset.formats.rows import splits_of
from dataset.formats.sources import read_records
from dataset.mixture import read_name
from dataset.picturebook.book import prompt_for
from dataset.picturebook.drawing.picture import blank
from dataset.pictures import pictures_in
from dataset.record import IMAGE, Ask, Turn
from engine.build import Trained, load_trained
from engine.chat import chat
from engine.command import guarded
from engine.console import Parser, spelled
from engine.device import pick_device, pick_dtype, prepare
from engine.freeze import count_parameters
from engine.inference import Answer, Decoding
from engine.looker import Looker, Watched, answer_all, finished_stages, language_of, one_image_loader, remembering
from engine.plugin import load_plugin, note_change
from engine.recipe import with_recipe
from model.checkpoints import read_json, write_json
from model.checkpoints.files import refusing
from scoring.answer_file import answer_rows, write_answers
from scoring.controls import captions_of_training, controls, findings, gains, variety
from scoring.entries import SIDE, reference_entries, scene_entries
from scoring.metrics import summarise, with_prefix
from scoring.page import SHOWN, Shown, preview, write_page
from scoring.report import SHEET, contact_sheet, score_table, unused_name, write_scores
from scoring.tasks import picture_book_task, question_task, reference_task

FOREIGN_PROMPTS = {"zh": "描述一下这个图像的内容。", "en": "Describe the content of this image."}  # zh: MiniMind-V's
LENGTHS = {0: "sentence", 1: "sentence", 2: "paragraph", 3: "long"}  # of the captions that each stage trains
SHORT = 64  # the longest answer to a question, in tokens


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    what = parser.add_argument_group("what to do (one of these)")
    what.add_argument("--images", metavar="DIR", help="caption every picture of a folder; with --data its pictures")
    what.add_argument("--image", metavar="FILE", help="describe this picture")
    what.add_argument("--chat", action="store_true", help="chat about --image in the terminal")
    what.add_argument("--split", choices=("val", "test", "compositional"), help="score on scenes of the picture book")
    what.add_argument("--data", metavar="FILE", help="score on a data set with answers: JSONL, JSON, parquet, "
        "tar or captions, of which @SUBSET names a split or a file of names")  # fmt: skip
    add = parser.add_argument_group("model").add_argument
    add("--weights", metavar="RUN", help="a run, or MiniMind2-V's .pth (default: the last stage in --runs)")
    add("--runs", default="out", metavar="DIR", help="folder of the stages' runs (default: out)")
    add("--vision", default="", metavar="DIR", help="the encoder of a .pth, or of a run if it was moved")
    add("--tokenizer", default="", metavar="DIR", help="the tokenizer of a .pth, if not beside it")
    add("--plugin", default="", metavar="FILE", help="the file that registers the run's projector, if it is your own")
    add = parser.add_argument_group("what to ask and to score").add_argument
    add("--n", type=int, default=1000, help="scenes or rows to score (default: 1000; 0: all rows)")
    add("--prompt", help="the question (default: of --data its own, else what the run was trained on last)")
    add("--language", choices=("zh", "en"), help="of the default prompt (default: that of the run)")
    add("--questions", type=int, default=300, metavar="N", help="scenes of --split to ask about, too (default: 300)")
    add("--max_bad", type=float, default=0.01, help="stop when more than this share of rows is bad (default: 0.01)")
    add("--blank", action=argparse.BooleanOptionalAction, help="score blanked images, too (default: with --split and "
        "where pictures have references)")  # fmt: skip
    add = parser.add_argument_group("what to write").add_argument
    add("--scores", metavar="FILE", help="write the scores as JSON")
    add("--answers", metavar="FILE", help="write each scored answer with its own scores, a line of JSON each")
    add("--page", metavar="FILE", help="write an HTML page of pictures and answers, errors marked")
    add = parser.add_argument_group("answers").add_argument
    add("--max_new_tokens", type=int, default=256, help="longest answer in tokens (default: 256)")
    add("--min_new_tokens", type=int, default=0, help="shortest answer: none ends before (default: 0)")
    add("--batch_size", type=int, default=64, help="answers generated at once (default: 64)")
    add("--temperature", type=float, default=0.0, help="0: greedy decoding (default: 0)")
    add("--top_p", type=float, default=1.0, help="with a temperature: nucleus sampling's mass (default: 1)")
    add("--repetition_penalty", type=float, default=1.0, help="above 1 discourages repetition (default: 1)")
    add("--seed", type=int, default=42, help="of sampling and bootstrap intervals (default: 42)")
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of matmuls (default: auto)")
    add("--fast", default="on", choices=("on", "off"), help="the fused passes or the plain model (default: on)")
    args = parser.parse_args(with_recipe(parser, argv))
    chosen = [bool(args.image), bool(args.split), bool(args.data), bool(args.images and not args.data)]
    if sum(chosen) != 1:
        parser.error("give one of --images DIR, --image FILE, --split NAME and --data FILE (with or without --images)")
    if args.chat and not args.image:
        parser.error("--chat talks about one picture; give it with --image FILE")
    if args.answers and not (args.split or args.data):
        parser.error("--answers keeps answers that are scored; give --split or --data with it")
    if min(args.n, args.questions) < 0 or args.batch_size < 1 or args.max_new_tokens < 1 or not 0 <= args.max_bad <= 1:
        parser.error("--n, --questions, --batch_size and --max_new_tokens take positive numbers, --max_bad 0 to 1")
    if args.images == "sft_images" and not Path("sft_images").exists():  # those that ship, in any folder
        args.images = str(Path(__file__).resolve().parent / "sft_images")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    command = spelled(shlex.join(["python", "eval_vlm.py", *(sys.argv[1:] if argv is None else argv)]))
    looker = load_looker(args)
    args.language = args.language or language_of(looker.trained)
    if args.chat:
        try:
            chat(looker, Path(args.image))
        except KeyboardInterrupt as stop:
            print()
            sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    elif args.image or (args.images and not args.data):
        caption(looker, [Path(args.image)] if args.image else pictures_in(Path(args.images)), args)
    elif args.split:
        score_split(looker, args, command)
    else:
        score_data(looker, args, command)


def load_looker(args: argparse.Namespace) -> Looker:
    """The model of --weights, on its device; prints its number of parameters."""
    device = pick_device(args.device)
    prepare(device)
    dtype = pick_dtype(args.dtype, device)
    load_plugin(args.plugin)
    path = Path(args.weights) if args.weights else finished_stages(args.runs, "give --weights")[0]
    note_change(args.plugin, path)
    trained = load_trained(path, args.vision, args.tokenizer, device, dtype, args.fast)
    decoding = Decoding(
        args.max_new_tokens, args.batch_size, args.temperature, args.top_p, args.repetition_penalty, args.seed, dtype,
        args.min_new_tokens,
    )
    counts = {part: sum(numbers) for part, numbers in count_parameters(trained.model).items()}
    without, vision = counts["llm"] + counts["projector"], counts["vision"] / 1e6
    print(f"{trained.path}: VLM parameters {without / 1e6:.3f} million ({without:,}), encoder {vision:.3f} million")
    return Looker(trained, decoding, pixel_loader(trained.encoder.spec))


def default_prompt(trained: Trained, language: str) -> str:
    """What the model learned to answer: its data's first prompt, the picture book's for its stage, or MiniMind-V's."""
    if not trained.settings:
        return FOREIGN_PROMPTS[language]
    file = trained.path / "samples.json"
    with refusing(file):
        samples = read_json(file)["samples"] if trained.settings.get("data") else []
        if samples:
            return samples[0]["prompt"].replace("<image>", "").strip()
    return prompt_for(length_of(trained), language)


def length_of(trained: Trained) -> str:
    """The length of the captions that its stage trains."""
    with refusing(trained.path / "run.json"):
        return LENGTHS[trained.settings.get("stage", 1)]


def caption(looker: Looker, files: list[Path], args: argparse.Namespace) -> None:
    """Print [Image] and the answer for each picture; write the captions as JSON, a contact sheet and a page.

    Captions of the same pictures for the same prompt are replaced, others kept: a new name is numbered.
    """
    prompt = args.prompt or default_prompt(looker.trained, args.language)
    print(f"[Prompt]: {prompt}")
    began = time.perf_counter()
    asks = [Ask((Turn("user", (IMAGE, "\n" + prompt)),), (file,), str(file)) for file in files]
    bad = BadRows(1.0)
    bad.seen(len(asks))
    watched = Watched(looker)
    answers = looker.say(asks, watched.load, bad)
    seconds = time.perf_counter() - began
    kept, shown = [], []
    for file, made in zip(files, answers, strict=True):
        distance, note = watched.seen.get(file, (None, ""))
        print(f"[Image]: {file.name}\n🤖️: {made.text if made else '(this picture cannot be read)'}")
        print(f"({note})\n" if note else "")
        kept.append({"image": file.name, "text": made and made.text, "stopped": made and made.stopped})
        if distance is not None:
            kept[-1] |= {"distance": round(distance, 4), "familiar": not note}
        if made:
            values = {} if distance is None else {"distance from training pictures": distance}
            shown.append((file, made.text, note, values))
    if not shown:
        raise DataError(f"no picture can be described.\n{bad.report()}")
    print(f"{len(files)} pictures in {seconds:.1f} s")
    if bad.bad:
        print(bad.report())
    if unlike := sum(bool(note) for *_, note, _ in shown):
        print(f"{unlike} of {len(shown)} pictures are unlike those the model was trained on")
    path = looker.trained.path
    folder = Path("out") / path.stem if path.is_file() else path
    name = f"captions_{files[0].stem if args.image else files[0].parent.resolve().name}"
    of = {"prompt": prompt, "pictures": str(Path(args.image or args.images).resolve())}
    name = unused_name(f"{folder}/{name}", of)
    write_json(f"{name}.json", {**of, "captions": kept})
    sheet = shown[:SHEET]
    notes = [contact_sheet(f"{name}.png", [preview(file) for file, *_ in sheet], [text for _, text, *_ in sheet])]
    if len(shown) > SHEET:
        notes.insert(0, f"the sheet shows the first {SHEET} of {len(shown):,} pictures, page and .json all of them")
    if len(shown) > SHOWN:
        notes[0] = f"sheet and page show the first {SHEET} and {SHOWN:,} of {len(shown):,} pictures, the .json has all"
    entries = (Shown(preview(file, SIDE), text, file.name, note=note, tags=("unlike training",) if note else (),
                     values=values) for file, text, note, values in shown)  # fmt: skip
    write_page(args.page or f"{name}.html", entries, prompt, run=None if path.is_file() else path)
    print("; ".join((f"kept as {name}.json, .png and .html", *filter(None, notes))))


def score_split(looker: Looker, args: argparse.Namespace, command: str) -> None:
    """Score captions of the picture book's scenes, and answers about them, with the image and with it blanked."""
    task = picture_book_task(args.split, args.n or 1000, length_of(looker.trained), args.language)
    task = replace(task, prompt=args.prompt or task.prompt)
    looker = replace(looker, load=remembering(looker))
    answers = answer_all(looker, task)
    metrics, rows = scored(looker, task, answers, args)
    if args.questions:
        brief = replace(looker, decoding=replace(looker.decoding, max_new_tokens=min(SHORT, args.max_new_tokens)))
        asked = question_task(args.split, min(args.questions, len(task.scenes)), args.language)
        more, more_rows = scored(brief, asked, answer_all(brief, asked), args)
        metrics, rows = metrics | more, rows + more_rows
    report(looker, args, command, len(task.scenes), metrics, rows)
    if args.page:
        write_scores_page(looker, args, command, f"{args.split}, {task.prompt}", metrics,
                          scene_entries(task.scenes, rows))  # fmt: skip


def score_data(looker: Looker, args: argparse.Namespace, command: str) -> None:
    """Score answers to a data set's own prompts, or to --prompt, against its references and against labels, if any."""
    bad = BadRows(args.max_bad)
    source = read_name(args.data)
    file = source.files[0] if source.files else Path(args.data)
    subset = source.subset or default_subset(splits_of(file), "test")
    task = reference_task(read_records(file, args.images, bad, subset), args.n or None, args.prompt)
    made = looker.say(task.asks(), bad=bad)
    bad.finish()
    kept = [i for i, one in enumerate(made) if one is not None]
    if not kept:
        raise DataError(f"no row of {args.data} can be scored.\n{bad.report()}")
    task, answers = type(task)(tuple(task.records[i] for i in kept)), [made[i] for i in kept]
    metrics, rows = scored(looker, task, answers, args)
    training = captions_of_training(looker.trained.settings) if task.captions else []
    metrics |= controls(task, [one.text for one in answers], training, args.seed)
    if bad.bad:
        print(bad.report())
    print(f"of the file's splits: {subset}" if subset != source.subset else "", end="")
    report(looker, args, command, len(kept), metrics, rows)
    if args.page:
        title = f"{Path(args.data).name} of {looker.trained.path}"
        write_scores_page(looker, args, command, title, metrics, reference_entries(task.about(), rows))


def scored(looker: Looker, task, answers: list[Answer], args: argparse.Namespace) -> tuple[dict, list[dict]]:
    """The metrics of a task's answers, and a row for each; by default a data set's are blanked if they are captions.

    With every image blanked the same metrics are blank_<name>, and gain_over_blank/ is what seeing brings.
    """

    def parts(some: list[Answer]) -> tuple[list[str], list[bool], list[int]]:
        return [one.text for one in some], [one.stopped for one in some], [one.tokens for one in some]

    samples = task.samples(*parts(answers))
    metrics = summarise(samples, args.seed) | variety(task, parts(answers)[0])
    if args.blank if args.blank is not None else args.split or task.captions:
        gray = blank(max(looker.trained.encoder.spec.shape))
        blind = task.samples(*parts(answer_all(looker, task, one_image_loader(looker, gray), "image blanked")))
        metrics |= with_prefix("blank_", summarise(blind, args.seed)) | gains("blank", samples, blind, args.seed)
    return metrics, answer_rows(task, *parts(answers), samples)


def report(looker: Looker, args: argparse.Namespace, command: str, n: int, metrics: dict, rows: list[dict]) -> None:
    """Print the scores, the controls and what they warn of; keep what is asked for."""
    print(f"\n{n} scored, seed {args.seed}, {looker.trained.path}\n")
    print(score_table({args.split or Path(args.data).name: metrics}))
    for text in findings(metrics):
        print(f"\n{text}")
    if args.scores:
        write_scores(args.scores, command, n, args.seed, str(looker.trained.path), metrics)
        print(f"\nscores kept in {args.scores}")
    if args.answers:
        write_answers(args.answers, rows)
        print(f"\nanswers kept in {args.answers}: python -m tools.compare sets two such files side by side")


def write_scores_page(looker: Looker, args: argparse.Namespace, command: str, title: str, metrics: dict, shown) -> None:
    run = looker.trained.path if looker.trained.path.is_dir() else None
    column = {args.split or Path(args.data).name: metrics}
    write_page(args.page, shown, title, column, command, "\n\n".join(findings(metrics)), run)
    print(f"page kept in {args.page}")


if __name__ == "__main__":
    sys.exit(guarded(main))
