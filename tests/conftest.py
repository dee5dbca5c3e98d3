"""What several tests share: tiny models on disk, made once."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from pathlib import Path

import pytest

from engine.start import wait_passively

wait_passively()
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts the tests in the background
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread costs more than it brings

from tiny import QUICK, write_encoder, write_jsonl, write_language  # noqa: E402  (imports torch)

# Of few but long tests: they come first, so that two processes end together.
LONGEST = ("test_without_fast.py", "test_readme.py", "test_tutorial.py", "test_torture.py", "test_web_page.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with vision/ and lm/ (tiny random models), data.jsonl and images/. Do not write into it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_encoder(folder / "vision")
    write_language(folder / "lm")
    write_jsonl(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """A folder of a module's own with what engine_parts.make_parts writes."""
    from engine_parts import make_parts

    folder = tmp_path_factory.mktemp("parts")
    make_parts(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny, tmp_path_factory) -> Path:
    """A finished run of train_pretrain.py on the tiny data. Do not write into it: copy it."""
    import train_pretrain

    out = tmp_path_factory.mktemp("runs") / "pretrain"
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tiny / "vision", "--out", out, "--steps", 2, "--batch_size", 4, *QUICK]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train_pretrain.main([str(flag) for flag in flags])
    return out


@pytest.fixture(autouse=True)
def kinds_of_projectors():
    """What projectors a test registers is forgotten after it."""
    from model.registry import MODULES, PROJECTORS

    before = dict(PROJECTORS), dict(MODULES)
    yield
    for table, rows in zip((PROJECTORS, MODULES), before, strict=True):
        table.clear()
        table.update(rows)
