"""Studies: trainings that differ in one thing, from several seeds, compared in one table."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import dataclasses
import inspect
import sys
from pathlib import Path

from engine.arguments import TrainArguments, UsageError, flag_of
from engine.command import RESUMES, guarded
from engine.console import Parser
from engine.plugin import load_plugin
from scoring.answer_file import write_answers
from tools.studies.arms import STUDIES, study_of
from tools.studies.curves import draw_curves
from tools.studies.figures import draw
from tools.studies.page import write_study
from tools.studies.results import crossed, gains_table, study_table, values_of
from tools.studies.rows import in_common, kept_rows, named
from tools.studies.runner import PICTURES, ROOT, Plan, quick, run_study
from tools.studies.tradeoff import at_equal_gain, draw_tradeoff, tradeoff_table

FIRST_SEED = 42


def main(argv: list[str] | None = None) -> None:
    """python ablate.py curriculum                    all arms and seeds, one after another
    python ablate.py curriculum --arm growing --seed 43    one row of the table
    python ablate.py curriculum --jobs 2 --threads 1       two rows at a time
    python ablate.py curriculum --report              table, plots and page of the rows that are there

    The arms of a study get the same number of steps and, where lengths of text are compared, of supervised tokens; the
    table states both. A study that was stopped goes on where it was. Flags that are not listed here are passed to every
    training command, as --english 1.
    """
    names = "\n".join(f"  {name:<14}{study.question}" for name, study in STUDIES.items())
    parser = Parser(f"{inspect.cleandoc(main.__doc__ or '')}\n\nstudies:\n{names}")
    parser.add_argument("study", choices=tuple(STUDIES), help="what to compare")
    parser.add_argument("--arm", action="append", metavar="NAME", help="this arm alone; may be given again")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="so many seeds (default: as the study says)")
    parser.add_argument("--seed", type=int, metavar="N", help="this seed alone")
    parser.add_argument("--n", type=int, default=PICTURES, metavar="N", help=f"pictures to score (default: {PICTURES})")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows made at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads of each (default: torch's)")
    parser.add_argument("--quick", action="store_true", help="a few steps and scenes, to see whether it runs")
    parser.add_argument("--report", action="store_true", help="train nothing: table, plots, page of the finished rows")
    parser.add_argument("--reference", default="", metavar="NAME",
                        help="arm that the others are compared with (default: as the study says)")  # fmt: skip
    parser.add_argument("--out", default="", metavar="DIR", help="folder of the runs (default: out/ablate/STUDY)")
    parser.add_argument("--recipe", default="", metavar="FILE", help="of every command: the photographs of "
                        "photos-curriculum, or a recipe for another study")  # fmt: skip
    parser.add_argument("--plugin", default="", metavar="FILE", help="a file that registers projectors of your own")
    args, extra = parser.parse_known_args(argv)
    known = {flag_of(item) for item in dataclasses.fields(TrainArguments)}
    for word in extra:
        if word.startswith("-") and word.lstrip("-").partition("=")[0] not in known:
            parser.error(parser.unknown(word, extra))
    args.plugin = args.plugin or (str(ROOT / file) if (file := STUDIES[args.study].plugin) else "")
    load_plugin(args.plugin)
    study = study_of(args.study)
    if study.photos and not args.recipe:
        raise UsageError(f"{args.study} needs photographs with several captions each: name a recipe of yours, "
                         "made of recipes/photos.toml, with --recipe")  # fmt: skip
    arms = args.arm or list(study.arms)
    unknown = [f"--arm {arm}" for arm in arms if arm not in study.arms]
    if args.reference and args.reference not in study.arms:
        unknown.append(f"--reference {args.reference}")
    if unknown:
        raise UsageError(f"{unknown[0]}: {args.study} has the arms {', '.join(study.arms)}")
    study = dataclasses.replace(study, reference=args.reference or study.reference)
    if min(args.n, args.jobs) < 1 or min(args.seeds, args.threads) < 0:
        parser.error("--n and --jobs take 1 or more, --seeds and --threads 0 or more")
    count = args.seeds or (1 if args.quick else study.seeds)
    seeds = [args.seed] if args.seed is not None else list(range(FIRST_SEED, FIRST_SEED + count))
    out = Path(args.out or f"out/ablate/{args.study}{'-quick' if args.quick else ''}").resolve()
    plugin = ("--plugin", str(Path(args.plugin).resolve())) if args.plugin else ()
    recipe = ("--recipe", args.recipe) if args.recipe else ()
    plan = Plan(args.study, study, out, args.n, tuple(extra), plugin, recipe)
    plan = quick(plan) if args.quick else plan
    if args.report:
        rows = kept_rows(plan, arms, seeds if args.seeds or args.seed is not None else ())
        there = {(row["arm"], row["seed"]) for row in rows}
        missing = [(arm, seed) for arm in arms for seed in seeds if (arm, seed) not in there]
        print(f"not there yet: {named(missing)}" if missing else "all rows are there")
    else:
        rows = run_study(plan, arms, seeds, args.jobs, args.threads)
    report(plan, rows, out)


def report(plan: Plan, rows: list[dict], out: Path) -> None:
    """Print the table of the rows whose seeds all arms have; keep rows, table, plots and page in the study's folder."""
    rows, alone = in_common(rows)
    if alone:
        print(f"left out, as other arms lack the seed: {named((row['arm'], row['seed']) for row in alone)}")
    reference = plan.study.reference if any(row["arm"] == plan.study.reference for row in rows) else rows[0]["arm"]
    counts = crossed(rows, out)
    values = values_of(rows, counts, reference)
    budgets = {row["steps"] for row in rows if row["steps"]}
    if len(budgets) > 1:
        print(f"the arms took {' and '.join(f'{steps:,}' for steps in sorted(budgets))} steps: compare with care")
    metrics = plan.study.metrics
    head = f"{plan.name}: {plan.study.question} {rows[0]['n']} test pictures; * differs from '{reference}', p < 0.05"
    print(f"\n{head}\n\n{study_table(rows, values, metrics)}")
    write_answers(out / f"{plan.name}.jsonl", rows)
    tables = [study_table(rows, values, metrics, markdown=True), gains_table(values, metrics, reference)]
    draw(out / f"{plan.name}.png", values, metrics, reference, plan.study.question)
    curves = out / f"{plan.name}_curves.png"
    drawn = draw_curves(curves, rows, plan.study.question)
    if (tradeoff := plan.study.tradeoff) and not drawn:
        found = at_equal_gain(counts, tradeoff, reference)
        print(f"\n{tradeoff_table(found, tradeoff)}")
        tables.append(tradeoff_table(found, tradeoff, markdown=True))
        draw_tradeoff(curves, found, tradeoff, plan.study.question)
        drawn = True
    (out / f"{plan.name}.md").write_text("\n\n".join([head, *tables]) + "\n", encoding="utf-8")
    write_study(plan, rows, values, reference, curves if drawn else None)
    print(f"\nkept as {out}/{plan.name}.jsonl, .md, {'_curves.png, ' if drawn else ''}.png and .html")


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
