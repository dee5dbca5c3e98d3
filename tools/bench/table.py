"""The benchmark's figures as a table, with a sentence or two on what they mean."""

from __future__ import annotations

TITLES = {
    "pretrain_cached": "projector only, features cached",
    "pretrain_pixels": "projector only, from pixels",
    "sft": "full SFT, features cached",
    "sft_pixels": "full SFT, from pixels",
    "generate_b1": "answers, one at a time",
    "generate_b16": "answers, many at once",
    "data_pixels": "data alone, from JPEGs",
    "data_cached": "data alone, from the cache",
}
HEADS = ("", "this", "unit", "reference", "ratio", "(from, to)", "tokens/s", "first ms", "MiB", "ref. MiB", "of peak")


def table(found: dict) -> str:
    """All workloads, one per line, with notes below."""
    works = {**found["works"], **found["others"]}
    rows = [HEADS, *(row(name, works[name]) for name in TITLES if name in works)]
    peers = any("peer" in work for work in works.values())
    if peers:
        rows = [(*line, number(works.get(name, {}).get("peer", {}).get("value")) if name else "peer")
                for name, line in zip(["", *(n for n in TITLES if n in works)], rows, strict=True)]  # fmt: skip
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths,
             strict=True))) for line in rows]  # fmt: skip
    return "\n".join([f"{found['device']}: matmuls in bf16 {found['matmul_bf16_gflops']:,.0f} GFLOP/s", "",
                      *lines, "", *notes(works)])  # fmt: skip


def row(name: str, work: dict) -> tuple[str, ...]:
    spread = work["spread"]["ratio"]
    share = work["peak_share"]
    return (
        TITLES[name], number(work["value"]), work["unit"], number(work["reference"]),
        f"{work['ratio']:.1f}x" if work["ratio"] else "-",
        f"({spread[0]:.1f}, {spread[1]:.1f})" if spread else "",
        number(work.get("tokens_per_s")), number(work.get("first_token_ms")),
        number(work["peak_mib"]), number(work["reference_peak_mib"]), f"{share:.1%}" if share else "-",
    )  # fmt: skip


def number(value: float | None) -> str:
    """About three digits; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def notes(works: dict) -> list[str]:
    """What the figures mean."""
    lines = [
        "samples/s and images/s include the data path. tokens/s: real tokens trained on, or new tokens over the whole",
        "time of an answer; an answer's own figure is of the tokens after its first. first ms: from picture file to",
        "first token (of all answers at once). MiB: peak memory of the workload's process. of peak: FLOPs needed,",
        "padding not counted, relative to the machine's fastest matmuls.",
    ]
    for name in ("pretrain_cached", "sft", "generate_b1"):
        work = works.get(name)
        if work and work["ratio"]:
            memory = work["reference_peak_mib"] and work["peak_mib"] and work["reference_peak_mib"] / work["peak_mib"]
            less = f", in {memory:.1f} times less memory" if memory else ""
            lines.append(f"{TITLES[name]}: {work['ratio']:.1f} times as fast as the reference{less}.")
    one, many = (works.get(name, {}).get("value") for name in ("generate_b1", "generate_b16"))
    if one and many:
        lines.append(f"Many answers at once: {many / one:.1f} times the tokens/s of one at a time.")
    lines += [f"{name}: {work['error'].splitlines()[-1]}" for name, work in works.items() if "error" in work]
    return lines
