"""What ``ladder bench`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladder.cli.show import mega, out, print_json, print_table, progress


def kernel(type: str, shape: str, activation: str, scheme: str, target: str, json: bool) -> None:
    """One product."""
    from ladder.bench_kernel import bench_kernel

    row = bench_kernel(type, shape, activation, scheme, target)
    if json:
        print_json(row)
        return
    print_table("", ["what", "value"], [[key, value] for key, value in row.items()])


def all_types(
    shape: str, activation: str, target: str, against: str, save: Path | None, json: bool
) -> None:
    """Every type, beside TVM where asked for; ``save`` takes the times as a cost table."""
    from ladder.bench_kernel import parse_shape
    from ladder.bench_types import bench_types
    from ladder.costs import measured_on, write_table

    _, n, k = parse_shape(shape)
    with progress():
        rows = bench_types(n, k, activation, target, against, every_scheme=save is not None)
    if save is not None:
        write_table(save, rows, measured_on(n, k, rows[0]["threads"]))
    if json:
        print_json(rows)
        return
    for m in dict.fromkeys(row["m"] for row in rows):
        picked = [row for row in rows if row["m"] == m]
        head = ["type", "bits per weight", "scheme", "ms", "spread"]
        print_table(
            f"M={m}, {n}x{k}, {activation}, {rows[0]['threads']} threads, {rows[0]['isa']}",
            [*head, "TVM ms", "times TVM"] if against else head,
            [_cells(row) for row in picked],
        )


def _cells(row: dict[str, Any]) -> list[Any]:
    cells = [
        row["type"],
        row["bits_per_weight"],
        row["scheme"],
        f"{1e3 * row['median_s']:.3f}",
        f"{1e3 * row['spread_s']:.3f}",
    ]
    if "tvm_s" in row:
        cells += [f"{1e3 * row['tvm_s']:.1f}", f"{row['times_tvm']:.1f}"]
    return cells


def artifact(folder: Path, tokens: int, json: bool) -> None:
    """Decode and prefill of a compiled language model."""
    from ladder.runtime.bench import bench_artifact

    result = bench_artifact(folder, tokens)
    if json:
        print_json(result)
        return
    rows = [[k, f"{1e3 * v:.3f} ms"] for k, v in result["breakdown"].items()]
    print_table("Where a decoded token's time goes", ["kernel", "time"], rows)
    for key in ("decode_tokens_per_s", "prefill_tokens_per_s", "low_bit_share"):
        out.print(f"{key}: {result[key]:.4g}")
    out.print(f"peak memory: {mega(result['peak_rss_bytes'])}")
