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
    shown = [name for name in TITLES if name in works]
    rows = [HEADS, *(row(TITLES[name], works[name]) for name in shown)]
    if any("peer" in work for work in works.values()):
        peers = ["peer", *(number(works[name].get("peer", {}).get("value")) for name in shown)]
        rows = [(*line, peer) for line, peer in zip(rows, peers, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in rows]
    title = f"{found['device']}: matmuls in bf16 {found['matmul_bf16_gflops']:,.0f} GFLOP/s"
    return "\n".join([title, "", *lines, "", *notes(works)])


def row(title: str, work: dict) -> tuple[str, ...]:
    spread = work["spread"]["ratio"]
    share = work["peak_share"]
    return (
        title, number(work["value"]), work["unit"], number(work["reference"]),
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
