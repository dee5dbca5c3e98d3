"""Every command of the READMEs and of docs/photographs.md ends well, in order, with tiny parts under their names."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import write_family
from families import write_clip, write_model
from PIL import Image
from tiny import conversation, write_encoder, write_jsonl, write_language, write_parquet

from glimpse.__main__ import COMMANDS
from model.checkpoints import clip_preprocess, write_json
from model.checkpoints.files import save_pickle
from model.config import LMConfig
from model.language import LanguageModel
from tokenizer.tokenizer import default_folder, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CPU = ["--device", "cpu", "--dtype", "float32"]
TRAIN = [*CPU, "--num_workers", "0", "--steps", "2", "--batch_size", "4", "--scenes", "24", "--samples", "24"]
BOOK = ["--vision", "tiny/vision"]  # instead of the encoder in the repo
SAY = [*CPU, "--max_new_tokens", "4"]
# How each program is run in seconds: flags that come after the README's own.
QUICK = {
    "train_vision.py": [*TRAIN, "--hidden_size", "64", "--layers", "1"],
    "train_lm.py": [*TRAIN, "--llm", "tiny/lm"],
    "train_pretrain.py": [*TRAIN, "--cell_steps", "2"],
    "train_sft.py": TRAIN,
    "ablate.py": ["--quick", *CPU, "--num_workers", "0"],
    "eval_vlm.py": SAY,
    "tools.probe": ["--device", "cpu", "--n", "20"],
    "tools.compare": [],
    "tools.report": [],
    "dataset.check": [],
    "dataset.texts": [],
    "tokenizer.train_tokenizer": [],
    "dataset.clean": [],
    "tools.export_llava": [],
    "tools.publish": [],
}
SHORT = '[data]\nsteps = 2\nbatch_size = 4\nnum_workers = 0\ndevice = "cpu"\ndtype = "float32"\n'  # of a recipe
# what adds to what is to be done -> what keeps it short
LONG = {"--split": ["--n", "4", "--questions", "2"], "projector": ["--arm", "linear"]}
SKIPPED = ("make ", "python -m venv", "pip install", "git ", ".venv/")  # make's are what CI runs
SERVES = "python -m tools.web"  # until it is stopped; tests/tools/test_web_page.py has it
# of studies one is run; the commands of all go through their parsers in tests/test_doc_code.py
STUDIES = tuple(f"python ablate.py {name}" for name in ("curriculum", "photos-curriculum", "random-init", "freeze",
                                                        "forgetting", "brands", "data-order"))  # fmt: skip


def commands(readme: str) -> list[str]:
    """The commands in the README's fenced blocks of bash, without comments."""
    text = (ROOT / readme).read_text("utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = [re.sub(r"\s+", " ", line.split("#")[0]).strip() for line in lines]
    return [line for line in found if line and not line.startswith((*SKIPPED, SERVES, *STUDIES))]


def noise_rows(per_label: int) -> tuple[dict, ...]:
    """Rows no two of which are near duplicates, equally many of each label."""
    rng = np.random.default_rng(0)
    rows = []
    for label in ("猫", "狗"):
        for number in range(per_label):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(file, "PNG")
            turns = json.dumps(conversation(f"一只{label}，编号{number}。"), ensure_ascii=False)
            rows.append({"conversations": turns, "image_bytes": [file.getvalue()], "label": label})
    return tuple(rows)


def write_parts(folder: Path) -> None:
    """Under the names that the README uses: data, pictures, encoders and language models."""
    write_encoder(folder / "tiny" / "vision", size=64)  # 64 features, so 16 tokens, as the picture book's
    write_language(folder / "tiny" / "lm")
    for name in ("pretrain.jsonl", "llava.json"):
        write_jsonl(folder, 100, name=name)
    shutil.copytree(folder / "images", folder / "pictures")
    (folder / "text.jsonl").write_text('{"conversations": [{"role": "user", "content": "天是什么颜色？"}, '
                                       '{"role": "assistant", "content": "蓝色。"}]}\n' * 40, "utf-8")  # fmt: skip
    for name in ("sft.parquet", "cifar.parquet", "cifar_val.parquet"):
        write_parquet(folder / name, 40)
    write_parquet(folder / "data.parquet", 0, noise_rows(60))
    (folder / "recipes").mkdir()
    for name in ("photos", "cifar"):  # the recipes of the repo, with fewer steps
        text = (ROOT / "recipes" / f"{name}.toml").read_text("utf-8")
        text = text.replace("[data]", SHORT, 1).replace("random:4x256", "random")  # which is small here
        (folder / "recipes" / f"{name}.toml").write_text(text, "utf-8")
    pictures = sorted(path.name for path in (folder / "pictures").iterdir())
    lines = [f"{name}#{k}\t图片{i}，第{k}条描述。\n" for i, name in enumerate(pictures) for k in range(2)]
    (folder / "captions.token").write_text("".join(lines), "utf-8")
    for name, some in (("train", pictures[:-20]), ("val", pictures[-20:-10]), ("test", pictures[-10:])):
        (folder / f"{name}.txt").write_text("\n".join(some))
    (folder / "sft_images").mkdir()
    for file in sorted((ROOT / "sft_images").glob("*.jpg"))[:2] + [ROOT / "sft_images" / "舞蹈-dance.jpg"]:
        shutil.copy(file, folder / "sft_images")
    write_clip(folder / "clip-vit-base-patch16")
    write_family(folder / "siglip-base", "siglip")
    write_json(folder / "siglip-base" / "preprocessor_config.json", clip_preprocess(32))
    write_model(folder / "Qwen2.5-0.5B-Instruct", "qwen2.5")
    torch.manual_seed(0)
    tokenizer = load_tokenizer(default_folder())
    minimind = LanguageModel(LMConfig(64, 1, 8, 2, 64, tokenizer.vocab_size))
    save_pickle(folder / "llm_512.pth", minimind.state_dict())
    tokenizer.save(folder / "minimind_tokenizer")


def script_of(command: str) -> list[str]:
    """The program and its flags, `glimpse train lm` as train_lm.py."""
    first, *words = shlex.split(command)
    if first == "glimpse":
        length = 2 if words[0] in ("train", "export") else 1
        module = COMMANDS[" ".join(words[:length])][0]
        return [module if "." in module else f"{module}.py", *words[length:]]
    return words[1:] if words[0] == "-m" else words


def test_an_installed_command_is_run_as_its_script():
    assert script_of("glimpse train lm --seed 1") == script_of("python train_lm.py --seed 1")
    assert script_of("glimpse publish out/sft3 hub") == script_of("python -m tools.publish out/sft3 hub")


def run(command: str, monkeypatch) -> None:
    program, *flags = script_of(command)
    flags += QUICK[program]
    for name, more in LONG.items():
        flags += more if name in flags else []
    book = "--data" not in flags and "--vision" not in flags
    flags += BOOK if book and program == "train_pretrain.py" else []
    monkeypatch.setattr(sys, "stdin", io.StringIO("什么颜色？\n"))
    name = program.removesuffix(".py")
    package = (ROOT / name.replace(".", "/")).is_dir()
    importlib.import_module(f"{name}.__main__" if package else name).main(flags)


def called(words: list[str], log, threads: int) -> int:
    """A command of a study, in this process."""
    with contextlib.redirect_stdout(log):
        importlib.import_module(words[0].removesuffix(".py")).main(words[1:])
    return 0


@pytest.mark.slow
def test_every_command_of_the_readme_runs_to_its_end(tmp_path, monkeypatch, capsys):
    for module in ("transformers", "matplotlib"):
        pytest.importorskip(module)
    write_parts(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.build.LMConfig", partial(LMConfig, 32, 1, 2, 1, 48))  # of --llm random
    monkeypatch.setattr("tools.studies.runner.called", called)
    found = commands("README.md") + commands("docs/photographs.md")
    assert len(found) >= 30
    for command in found:
        if "--runs out/en" in command:  # its first stages, which it would run at full length
            for stage in ("pretrain", "sft1", "sft2"):
                shutil.copytree(tmp_path / "out" / stage, tmp_path / "out" / "en" / stage)
        try:
            run(command, monkeypatch)
        except BaseException as error:
            raise AssertionError(f"{command}\n{type(error).__name__}: {error}") from error
    assert (tmp_path / "exported" / "model.safetensors").is_file()


def test_the_chinese_readme_has_no_command_of_its_own():
    def known(command: str) -> str:
        return re.sub(r" --(english 1|runs out/en)", "", command)

    english = {known(command) for command in commands("README.md")}
    assert {known(command) for command in commands("README_zh.md")} <= english
