"""What every command does before torch is imported: OpenMP's threads wait passively, Ctrl-C ends it with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.start import WAITING

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [path for path in sorted((ROOT / "tools").rglob("*.py")) if "guarded(main" in path.read_text("utf-8")]
COMMANDS = [
    *([path.name] for path in sorted(ROOT.glob("*.py"))),
    *(["-m", ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")] for path in TOOLS),
]
TORCH = """
import os, signal
print({name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}, flush=True)
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    pass  # as extension modules do that are being imported
"""


def begun(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """The command under a torch that prints how OpenMP is told to wait, and gets a SIGINT while it is imported."""
    (folder / "torch.py").write_text(TORCH)
    clean = {name: value for name, value in os.environ.items() if name not in (*WAITING, "GOMP_SPINCOUNT")}
    clean |= {"PYTHONPATH": str(folder), **environment}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_threads_wait_passively_and_ctrl_c_while_importing_is_one_line(tmp_path, command):
    ended = begun(command, tmp_path)
    assert ended.stdout == f"{WAITING}\n"
    assert (ended.returncode, ended.stderr) == (130, "\nSIGINT\n")


@pytest.mark.parametrize(
    "name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "9"), ("KMP_BLOCKTIME", "9")]
)
def test_how_the_user_says_that_threads_wait_is_left_alone(tmp_path, name, value):
    said = {key: value if key == name else None for key in WAITING}
    assert begun(["train_lm.py"], tmp_path, **{name: value}).stdout == f"{said}\n"


def test_threads_wait_passively_in_the_tests_too():
    assert any(name in os.environ for name in (*WAITING, "GOMP_SPINCOUNT"))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
def test_a_rank_dies_with_its_torchrun():
    rank = "import time; from engine.start import begin; begin(); print(1, flush=True); time.sleep(9); print('alive')"
    launcher = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {rank!r}]); input()"
    environment = {**os.environ, "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", launcher], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "1\n"
        parent.kill()
        assert parent.stdout.read() == ""  # the pipe closes when the rank, which has it too, is gone


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name stands in for a file that takes long to read")
@pytest.mark.parametrize("module", ["dataset.check", "dataset.clean"])
def test_ctrl_c_while_a_data_file_is_read_shows_no_traceback(tmp_path, module):
    pipe, out = tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    os.mkfifo(pipe)
    rest = [str(out)] if module == "dataset.clean" else []
    command = subprocess.Popen([sys.executable, "-m", module, str(pipe), *rest], cwd=ROOT, stderr=subprocess.PIPE)
    with pipe.open("wb"):  # opens once the command reads from it
        command.send_signal(signal.SIGINT)
        assert (command.wait(60), command.stderr.read() if command.stderr else None) == (130, b"")
    assert not out.exists()
