"""Imports run one way, nothing happens at import, and what only some commands need is imported where it is used."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "tokenizer": {"tokenizer"},
    "model": {"model"},
    "dataset": {"dataset", "tokenizer"},
    "scoring": {"scoring", "dataset", "tokenizer"},
    "engine": {"engine", "dataset", "tokenizer", "model"},
}
CORE = {"torch", "numpy", "PIL", "safetensors", "tokenizers", "tqdm"}  # what every command needs
SCRIPTS = tuple(path.stem for path in ROOT.glob("*.py"))
OURS = {*MAY_IMPORT, "tools", "tests", "glimpse", *SCRIPTS}


def sources() -> list[Path]:
    """The Python files of the packages, the tools and the scripts, not of the tests."""
    packages = [path for name in (*MAY_IMPORT, "tools", "glimpse") for path in sorted((ROOT / name).rglob("*.py"))]
    return packages + sorted(ROOT.glob("*.py"))


def imported(tree: ast.AST) -> list[str]:
    """The top-level package of every import in a tree, wherever it stands; "." for a relative one."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." if node.level else str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            names.append(ast.unparse(node))
    return names


def at_import(tree: ast.Module) -> list[ast.stmt]:
    """The statements that run when a module is imported: all but the bodies of functions and the two guards."""
    statements: list[ast.stmt] = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            continue
        statements.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.ClassDef)):
            waiting += [child for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))
                        and not in_function(child, node)]  # fmt: skip
    return statements


def in_function(child: ast.AST, inside: ast.AST) -> bool:
    functions = (node for node in ast.walk(inside) if isinstance(node, (ast.FunctionDef, ast.Lambda)))
    return any(child in ast.walk(function) for function in functions)


def wrong_way(package: str, tree: ast.AST) -> list[str]:
    """The imports of ours, or of a kind that cannot be judged, that a module of this package may not have."""
    plain = [name for name in imported(tree) if not name.isidentifier()]
    return plain + [name for name in imported(tree) if name in OURS and name not in MAY_IMPORT[package]]


def heavy(tree: ast.Module) -> list[str]:
    """What is imported with the module and is not needed by every command."""
    names = [name for node in at_import(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
             for name in imported(node)]  # fmt: skip
    return [name for name in names if name not in CORE | OURS | sys.stdlib_module_names]


def work(tree: ast.Module) -> list[str]:
    """The statements at the top of a module that do something, beside defining."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    done = [node for node in at_import(tree) if not isinstance(node, kinds)]
    return [ast.unparse(node) for node in done
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]  # fmt: skip


def test_imports_of_the_packages_run_one_way():
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in sources()
        if path.parent != ROOT and path.relative_to(ROOT).parts[0] in MAY_IMPORT
        and (wrong := wrong_way(path.relative_to(ROOT).parts[0], ast.parse(path.read_text("utf-8"))))
    }  # fmt: skip
    assert not found


def modules(tree: ast.AST) -> set[str]:
    """The whole name of every module that a tree imports, wherever it stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imports_of(folder: str, but: str = "\0") -> dict[str, set[str]]:
    files = (path for path in (ROOT / folder).rglob("*.py") if but not in path.relative_to(ROOT).parts)
    return {str(path.relative_to(ROOT)): modules(ast.parse(path.read_text("utf-8"))) for path in files}


def test_the_plain_model_does_not_know_the_fast_one():
    found = imports_of("model", but="fast")
    assert len(found) > 15 and not [file for file, names in found.items() if "model.fast" in names]


def test_the_engine_knows_no_data_set_of_its_own():
    found = imports_of("engine")
    assert len(found) > 10
    assert not [file for file, names in found.items() if any(name.startswith("dataset.picturebook") for name in names)]


def test_what_only_some_commands_need_is_imported_where_it_is_used():
    found = {str(p.relative_to(ROOT)): some for p in sources() if (some := heavy(ast.parse(p.read_text("utf-8"))))}
    assert not found


def test_nothing_is_done_at_import():
    found = {str(p.relative_to(ROOT)): some for p in sources() if (some := work(ast.parse(p.read_text("utf-8"))))}
    assert not found


def test_every_library_that_is_imported_is_in_the_requirements():
    text = "\n".join((ROOT / name).read_text("utf-8").lower() for name in ("requirements.txt", "requirements-dev.txt"))
    names = {"PIL": "pillow"}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (p for p in sources() if p.relative_to(ROOT).parts[0] not in ("tools", "glimpse"))
        for name in imported(ast.parse(path.read_text("utf-8")))
        if name not in OURS | sys.stdlib_module_names and names.get(name, name).lower() not in text
    }
    assert not missing


@pytest.mark.parametrize(
    "package, code, expected",
    [
        ("model", "import dataset.record", ["dataset"]),
        ("model", "def f():\n    from engine import loop", ["engine"]),
        ("dataset", "from scoring.metrics import totals\nfrom tokenizer.chat import render", ["scoring"]),
        ("scoring", "from engine.checkpoint import Run\nimport model.vlm", ["engine", "model"]),
        ("engine", "import train_sft\nfrom . import run", [".", "train_sft"]),
        ("tokenizer", "import importlib\nx = importlib.import_module('model')", ["importlib.import_module('model')"]),
    ],
)
def test_an_import_that_runs_the_other_way_is_found(package, code, expected):
    assert sorted(wrong_way(package, ast.parse(code))) == sorted(expected)


def test_work_and_heavy_imports_at_the_top_of_a_module_are_found():
    tree = ast.parse("import torch, pyarrow\ntry:\n    import wandb\nfinally:\n    pass\nprint(1)\n"
                     "def f():\n    import matplotlib\nfor i in range(3):\n    pass\n")  # fmt: skip
    assert heavy(tree) == ["pyarrow", "wandb"]
    assert [text.split()[0] for text in work(tree)] == ["try:", "print(1)", "for"]
