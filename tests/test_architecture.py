"""docs/architecture.md: its examples work, what it names is there, its lines are counted, links lead somewhere."""

from __future__ import annotations

import re
import sys
import threading
import types
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from test_imports import MAY_IMPORT
from tiny import write_language

import dataset.splits
import engine.loop
import train_pretrain
from engine.arguments import TrainArguments
from engine.command import guarded
from model.checkpoints.vision_families import vision_tensors
from model.config import PROJECTORS, ProjectorConfig, VisionConfig
from model.registry import MODULES
from model.vision import VisionTransformer
from tools import lines

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text("utf-8")
BLOCK = re.compile(r"```python\n# (?P<head>[^\n]+)\n(?P<code>.*?)```", re.DOTALL)
NAMED = re.compile(r"(?<![\w./-])(?:[\w.]+/)*(?:\w+\.(?:py|c|md)\b|\w+/(?![\w*]))")  # a file or a folder
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LINE_ROW = re.compile(r"^\| \[([^\]]+)\]\(\.\./([^)]+)\) \| ([\d,]+) \|", re.MULTILINE)
FOLDER_ROW = re.compile(r"^\| `([a-z_/]+)/` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
SPINE_LINES, READING_LINES = 1200, 3000


def blocks_of(title: str) -> list[tuple[str, str]]:
    """(first line, code) of each block under a heading of the page."""
    text = re.split(r"^##", TEXT.split(f"\n### {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [(block["head"], block["code"]) for block in BLOCK.finditer(text)]


def new_files() -> set[str]:
    return {block["head"].removesuffix(" (new)") for block in BLOCK.finditer(TEXT) if block["head"].endswith(" (new)")}


def follow(title: str, patch: pytest.MonkeyPatch, **given) -> None:
    """Do what a section says: its code comes into the modules of the files that it names; then its check runs."""
    *steps, (last, check) = blocks_of(title)
    assert steps and last.startswith("check")
    for head, code in steps:
        put(head, code, patch)
    exec(compile(check, f"{PAGE.name}, {title}", "exec"), {"__name__": "check", **given})


def put(head: str, code: str, patch: pytest.MonkeyPatch) -> None:
    """Run a block in its file's module; who had imported what it replaces gets the new one. `patch` takes it back."""
    file = head.removesuffix(" (new)")
    name = file.removesuffix(".py").replace("/", ".")
    assert (ROOT / file).exists() is (head == file), head
    if head != file:
        module = types.ModuleType(name)
        patch.setitem(sys.modules, name, module)
        exec(compile(code, file, "exec"), vars(module))
        return
    module = import_module(name)
    before = dict(vars(module))
    tables = {key: dict(value) for key, value in before.items() if key.isupper() and isinstance(value, dict)}
    exec(compile(code, file, "exec"), vars(module))
    for table, rows in tables.items():
        for key in [key for key in before[table] if key not in rows]:
            patch.setitem(before[table], key, before[table].pop(key))
    for key, value in [(k, v) for k, v in vars(module).items() if k not in before or before[k] is not v]:
        holders = [module]
        if key in before:
            vars(module)[key] = before[key]
            holders = [m for m in list(sys.modules.values()) if vars(m).get(key) is before[key]]
        else:
            delattr(module, key)
        for holder in holders:
            patch.setattr(holder, key, value, raising=False)


def test_a_projector_is_added_as_told(monkeypatch):
    (field,) = (field for field in fields(TrainArguments) if field.name == "projector")
    assert field.metadata["choices"] is PROJECTORS  # so that the flag takes it too
    follow("add a projector", monkeypatch)
    assert (PROJECTORS.pop("norm")(7), MODULES.pop("norm").__name__) == (7, "NormProjector")
    with pytest.raises(ValueError, match="kind: found 'norm'"):
        ProjectorConfig("norm", 8, 8)


def test_a_data_format_is_added_as_told(monkeypatch):
    follow("add a data format", monkeypatch)


def test_an_encoder_family_is_added_as_told(monkeypatch):
    follow("add an encoder family", monkeypatch)
    sizes = VisionConfig(24, 32, 1, 2, 32, 8, "gelu", pre_norm=False, patch_bias=True, post_norm="applied")
    layer = "encoder.layer.0."
    widths = {"attention.attention.query": (24, 24), "attention.attention.key": (24, 24),
              "attention.attention.value": (24, 24), "attention.output.dense": (24, 24),
              "intermediate.dense": (32, 24), "output.dense": (24, 32)}  # fmt: skip
    wanted = {  # as transformers writes a ViTModel, but for its pooler
        "embeddings.cls_token": (1, 1, 24),
        "embeddings.position_embeddings": (1, 17, 24),
        "embeddings.patch_embeddings.projection.weight": (24, 3, 8, 8),
        "embeddings.patch_embeddings.projection.bias": (24,),
        **{f"{layer}{name}.weight": shape for name, shape in widths.items()},
        **{f"{layer}{name}.bias": shape[:1] for name, shape in widths.items()},
        **{f"{name}.{part}": (24,) for part in ("weight", "bias")
           for name in (f"{layer}layernorm_before", f"{layer}layernorm_after", "layernorm")},
    }  # fmt: skip
    written = vision_tensors(VisionTransformer(sizes), "vit")
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == wanted


def test_a_metric_is_added_as_told(monkeypatch):
    follow("add a metric", monkeypatch)


def test_a_stage_of_training_is_added_as_told(monkeypatch, tiny_run, tmp_path, capsys):
    monkeypatch.setattr(dataset.splits, "VALIDATION_ROWS", 4)
    follow("add a stage of training", monkeypatch, start=tiny_run, out=tmp_path / "questions")
    assert "is finished; nothing to do" in capsys.readouterr().out


def test_every_file_and_folder_that_the_page_names_is_there():
    prose = BLOCK.sub("", TEXT)
    spans = re.findall(r"`([^`\n]+)`", prose) + re.findall(r"^```\n(.*?)^```", prose, re.DOTALL | re.MULTILINE)
    names = {name for span in spans for name in NAMED.findall(span)} - new_files()
    assert len(names) > 30 and {"model/fast/", "dataset/record.py", "ablate.py"} <= names
    assert not [name for name in names if not (ROOT / name).exists()]
    assert not [name for name in new_files() if (ROOT / name).exists()]


def test_the_line_counts_of_the_reading_path_are_right_within_a_twentieth():
    rows = LINE_ROW.findall(TEXT)
    assert len(rows) > 20 and all(name == target for name, target, _ in rows)
    wrong = {name: (said, lines.count(name)) for name, _, said in rows
             if abs(int(said.replace(",", "")) - lines.count(name)) > 0.05 * lines.count(name)}  # fmt: skip
    assert not wrong
    assert {name for name, _, _ in rows[: len(lines.SPINE)]} == set(lines.SPINE)  # the spine comes first


def test_the_folders_may_import_what_the_page_says():
    said = {folder: set(re.findall(r"`(\w+)`", names)) for folder, names in FOLDER_ROW.findall(TEXT)}
    assert {folder.split("/")[0] for folder in said} == set(MAY_IMPORT)
    assert said == {folder: MAY_IMPORT[folder.split("/")[0]] for folder in said}
    files = [file for name in MAY_IMPORT for file in (ROOT / name).rglob("__init__.py")]
    packages = {file.parent.relative_to(ROOT).as_posix() for file in files}
    assert packages - set(said) == {"dataset/picturebook/drawing"}  # told of in its parent's row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    links = [link for link in LINK.findall(page.read_text("utf-8")) if not re.match(r"[a-z]+:", link)]
    assert not [link for link in links if not leads(page, link)]


def leads(page: Path, link: str) -> bool:
    """Whether a link names a file or folder, and after # one of its headings."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a.md").write_text("# One two?\n", "utf-8")
    assert leads(tmp_path / "a.md", "#one-two") and leads(tmp_path / "b.md", "a.md#one-two")
    assert not leads(tmp_path / "a.md", "#one") and not leads(tmp_path / "a.md", "b.md")


def test_the_core_tier_of_make_check_is_there():
    core = re.search(r"^CORE := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE).group(1)
    names = core.replace("\\", " ").split()
    assert {"language", "vlm", "loop", "checkpoint", "words", "imports"} <= set(names) and len(names) == len(set(names))
    assert not [name for name in names if not [*(ROOT / "tests").rglob(f"test_{name}.py")]]


def test_neither_the_spine_nor_what_must_be_read_grows():
    assert lines.total(lines.SPINE) <= SPINE_LINES and lines.total(lines.READING) <= READING_LINES
    assert set(lines.READING) <= set(lines.PATH)


def test_the_whole_product_is_counted(capsys):
    found = lines.product()
    assert {"train_sft.py", ".ci/check_scores.py", "model/fast/kernels.c", "tools/lines.py"} <= set(found)
    assert not [name for name in found if name.startswith(("tests/", ".venv/"))] and len(found) == len(set(found))
    lines.main([])
    out = capsys.readouterr().out
    for names in (lines.SPINE, lines.PATH, found):
        assert re.search(rf"^ *{lines.total(names):,}  .+: {len(names)} files$", out, re.MULTILINE)
    assert all(f"  {name}\n" in out for name in lines.PATH)


class FirstStep(BaseException):
    """The weights have changed once."""


def test_the_path_to_a_weight_update_is_the_one_that_runs(tmp_path, monkeypatch, capsys):
    """Every module of which a function runs, from the flags of train_pretrain.py on, is listed, and no other one."""
    ran: set[types.CodeType] = set()
    take_step = engine.loop.take_step

    def watch(frame, event, _):
        if event == "call":
            ran.add(frame.f_code)

    def first_step(*args):
        take_step(*args)
        raise FirstStep

    monkeypatch.setattr(engine.loop, "take_step", first_step)
    monkeypatch.setattr(dataset.splits, "VALIDATION_ROWS", 4)
    write_language(tmp_path / "lm")
    (tmp_path / "lm" / "finished.json").write_text("{}", "utf-8")
    flags = ["--runs", tmp_path, "--scenes", 30, "--samples", 16, "--steps", 1, "--cell_steps", 1, "--fast", "off",
             "--device", "cpu", "--dtype", "float32"]  # fmt: skip
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        with pytest.raises(FirstStep):
            guarded(lambda: train_pretrain.main([str(flag) for flag in flags]))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    files = {Path(code.co_filename) for code in ran if code.co_flags & 1}  # a class's body has no such flag
    names = {file.relative_to(ROOT).as_posix() for file in files if file.is_relative_to(ROOT)}
    plain = set(lines.product()) - set(lines.fast())  # which is asked whether it is in use, where a test has loaded it
    assert names & plain == set(lines.PATH)
