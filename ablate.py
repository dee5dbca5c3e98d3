"""Ablations: the same training with one thing changed, for several seeds, compared in one table."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import shlex
import sys
from pathlib import Path

import eval_vlm
import train_pretrain
from engine.arguments import UsageError
from engine.checkpoint import Run
from engine.command import RESUMES, guarded
from engine.console import Parser
from engine.plugin import load_plugin
from model.checkpoints import read_json, write_json
from model.config import PROJECTORS
from scoring.report import score_table

# ablation -> arm -> the flags of train_pretrain.py that set the arm apart
ARMS: dict[str, dict[str, list[str]]] = {
    "random-init": {"trained LM": [], "random LM": ["--llm", "random"],
                    "random LM, heads that match": ["--llm", "random", "--init", "matching"]},
    "projectors": {},  # all there are, see arms()
}
COMPARED = ("statement_accuracy", "caption_true_share", "f1", "precision", "recall", "chair_i", "colour_binding",
            "place_accuracy", "mean_length", "stopped_share", "loop_share", "unscored_share", "blank_f1")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """python ablate.py random-init    pretraining with a trained language model, and with a random one
    python ablate.py projectors     pretraining with each projector, and with --plugin FILE those that it registers

    Every arm gets the same data, steps and seeds, and is scored on the same test scenes. Flags that are not listed
    here are passed to train_pretrain.py in every arm, as --samples 5000 or --data FILE.
    """
    parser = Parser(main.__doc__)
    parser.add_argument("ablation", choices=tuple(ARMS), help="what to vary")
    parser.add_argument("--seeds", type=int, default=1, help="seeds per arm (default: 1)")
    parser.add_argument("--n", type=int, default=500, help="test scenes to score (default: 500)")
    parser.add_argument("--plugin", default="", help="a Python file that registers projectors of your own")
    parser.add_argument("--out", default="", help="folder of the runs (default: out/ablate/<ablation>)")
    args, flags = parser.parse_known_args(argv)
    if args.seeds < 1 or args.n < 1:
        raise UsageError(f"--seeds {args.seeds} --n {args.n}: expected 1 or more of each")
    load_plugin(args.plugin)
    plugin = ["--plugin", args.plugin] if args.plugin else []
    command = shlex.join(["python", "ablate.py", *(sys.argv[1:] if argv is None else argv)])
    out = Path(args.out or f"out/ablate/{args.ablation}")
    table: dict[str, dict] = {}
    for seed in range(42, 42 + args.seeds):
        for arm, differs in arms(args.ablation).items():
            title = arm if args.seeds == 1 else f"{arm}, seed {seed}"
            print(f"\n== {title}")
            run = out / f"{arm.replace(' ', '-').lower()}-{seed}"
            table[title] = run_arm(run, [*differs, *flags], seed, args.n, plugin)
    steps = {title: row["steps"] for title, row in table.items()}
    if len(set(steps.values())) > 1:
        print(f"the arms did not get equal budgets, so compare with care: {steps}")
    names = [column for name in COMPARED for column in (name, f"{name}_ci95")]
    shown = {title: {name: row["metrics"][name] for name in names if name in row["metrics"]}
             for title, row in table.items()}  # fmt: skip
    print(f"\n{args.ablation}: {args.n} test scenes, 95% intervals in brackets\n\n{score_table(shown)}")
    write_json(out / "comparison.json", {"command": command, "n": args.n, "arms": table})
    (out / "comparison.md").write_text(f"`{command}`\n\n{score_table(shown, markdown=True)}\n", encoding="utf-8")
    print(f"\nkept as {out}/comparison.json and .md")


def arms(ablation: str) -> dict[str, list[str]]:
    """The arms of an ablation; of projectors all there are, without the warm-up on cells, which few can have."""
    return ARMS[ablation] or {kind: ["--projector", kind, "--cell_steps", "0"] for kind in PROJECTORS}


def run_arm(run: Path, flags: list[str], seed: int, n: int, plugin: list[str]) -> dict:
    """Train and score one arm: its budget and metrics. A finished arm is not trained again."""
    train_pretrain.main(["--out", str(run), "--seed", str(seed), *plugin, *flags])
    scores = run / "scores.json"
    eval_vlm.main(["--split", "test", "--weights", str(run), "--n", str(n), "--scores", str(scores),
                   "--max_new_tokens", "64", "--questions", "0", *plugin])  # fmt: skip
    summary = Run(run).summary()
    return {
        "run": str(run), "steps": summary["steps"], "tokens": summary["tokens"], "val_loss": summary["val_loss"],
        "metrics": read_json(scores)["metrics"],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
