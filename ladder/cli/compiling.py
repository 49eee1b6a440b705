"""``ladder compile`` and ``ladder quantize``; with a budget they plan first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.show import mega, out, print_json, print_plan, print_table, progress


def compile_command(
    ctx: typer.Context,
    model: o.Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Artifact folder to write.")],
    target: o.Target = "native",
    type: o.Type = "int4:g128",
    bpw: o.Bpw = "",
    size: o.Size = "",
    latency: o.Latency = "",
    max_kl: o.MaxKl = "",
    prefer: o.Prefer = "",
    minimise: o.Minimise = "",
    types: o.Types = o.TYPES,
    keep: o.Keep = None,
    rules: o.Rules = None,
    plan: o.PlanFile = None,
    save_plan: o.SavePlan = None,
    rounding: o.Rounding = "mse",
    activation: o.Activation = "int8",
    outliers: o.Outliers = "none",
    context: o.Context = 2048,
    chunk: o.Chunk = 64,
    dims: o.Dims = None,
    calib: o.Calib = None,
    windows: o.Windows = 8,
    tokens: o.Tokens = 128,
    workers: o.Workers = "0",
    state: o.State = None,
    costs: o.Costs = None,
    rest: o.Rest = "",
    verify: o.Verify = True,
    long_tokens: o.LongTokens = 0,
    refine: o.Refine = 0,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Compile a model into an artifact folder for 'ladder run'; a budget is planned for first."""
    o.set_threads(threads)
    from ladder.planning.one_step import compile_wished

    with progress():
        report = compile_wished(model, output, o.given(ctx), save_plan).report
    if json:
        print_json(report)
        return
    _print_report(report)
    feed = "--prompt TEXT" if report["language_model"] else "--input FILE.npz"
    out.print(f"Wrote {output} in {report['seconds']} s. Next: ladder run {output} {feed}")


def quantize_command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN.onnx")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx")],
    type: o.Type = "int4:g32",
    bpw: o.Bpw = "",
    size: o.Size = "",
    max_kl: o.MaxKl = "",
    prefer: o.Prefer = "",
    minimise: o.Minimise = "",
    types: o.Types = o.TYPES,
    keep: o.Keep = None,
    rules: o.Rules = None,
    plan: o.PlanFile = None,
    save_plan: o.SavePlan = None,
    rounding: o.Rounding = "mse",
    outliers: o.Outliers = "none",
    format: Annotated[
        str, typer.Option(help="qdq: standard operators; nbits: MatMulNBits.")
    ] = "qdq",
    activation: o.Activation = "fp32",
    calib: o.Calib = None,
    windows: o.Windows = 8,
    tokens: o.Tokens = 128,
    workers: o.Workers = "0",
    state: o.State = None,
    verify: o.Verify = True,
    long_tokens: o.LongTokens = 0,
    refine: o.Refine = 0,
    json: o.Json = False,
) -> None:
    """ONNX in, ONNX out: low-bit weights for any ONNX Runtime; a budget is planned for first."""
    from ladder.planning.one_step import quantize_wished

    with progress():
        report = quantize_wished(source, output, o.given(ctx), save_plan)
    if json:
        print_json(report)
        return
    _print_report({"assumed": [], **report})
    out.print(
        f"Wrote {output}: {mega(report['size_bytes_before'])} -> {mega(report['size_bytes'])}."
    )


def _print_report(report: dict[str, Any]) -> None:
    by_type: dict[tuple[str, str, str], list[int]] = {}
    for site in report["sites"]:
        row = by_type.setdefault((site["role"], site["type"], site.get("form", "")), [0, 0])
        row[0] += 1
        row[1] += site["n"] * site["k"]
    shown = 3 if any(form for _, _, form in by_type) else 2  # an ONNX file has forms
    rows = [[*key[:shown], count, f"{n / 1e6:.2f} M"] for key, (count, n) in by_type.items()]
    print_table("Sites", [*("role", "type", "form")[:shown], "sites", "weights"], rows)
    for row in report.get("kernels", []):
        stack = f" ({row['stack']} as one)" if row["stack"] else ""
        what = f"{row['level']} {row['function']}: {row['sites']} x {row['type']}{stack}"
        out.print(f"{what}: {row['scheme']} with {row['activation']} activations: {row['reason']}")
    for row in report["left_alone"]:
        out.print(f"left alone: {row['name']}: {row['reason']}")
    for note in report["notes"]:
        out.print(f"note: {note}")
    if report.get("plan"):
        print_plan(report["plan"])
    out.print(f"{report['bits_per_weight']} bits per weight, {mega(report['size_bytes'])} on disk.")
    out.print(f"Assumed: {', '.join(report['assumed'])}." if report["assumed"] else "")
