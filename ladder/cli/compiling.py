"""``ladder compile`` and ``ladder quantize``. With a budget, both make a plan first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.outcome import print_outcome, summary
from ladder.cli.parameters import takes
from ladder.cli.show import mega, out, print_json, print_table, progress
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions


@takes(CompileOptions, PlanOptions, leave_out=("pareto",))
def compile_command(
    model: o.Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Artifact folder to write.")],
    asked: dict[str, Any],
    save_plan: o.SavePlan = None,
    threads: o.Threads = 0,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Compile a model into an artifact folder for 'ladder run'. A budget makes a plan first."""
    o.set_threads(threads)
    from ladder.planning.one_step import compile_in_one_step

    with progress():
        report = compile_in_one_step(model, output, asked, save_plan).report
    if json:
        print_json(report.to_json())
        return
    feed = "--prompt TEXT" if report.language_model else "--input FILE.npz"
    out.print(
        f"Wrote {output} in {report.seconds} s: {mega(report.size_bytes)}, {summary(report)}."
    )
    out.print(f"Next: ladder run {output} {feed}")
    print_outcome(report, verbose)


@takes(QuantizeOptions, PlanOptions, leave_out=NOT_FOR_FILES)
def quantize_command(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx")],
    asked: dict[str, Any],
    save_plan: o.SavePlan = None,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Give an ONNX file low-bit weights, for any ONNX Runtime. A budget makes a plan first."""
    from ladder.planning.one_step import quantize_in_one_step

    with progress():
        report = quantize_in_one_step(source, output, asked, save_plan)
    if json:
        print_json(report.to_json())
        return
    sizes = f"{mega(report.size_bytes_before)} -> {mega(report.size_bytes)}"
    out.print(f"Wrote {output}: {sizes}, {summary(report)}.")
    for line in report.expected:
        out.print(f"Expected: {line}.")
    if report.bench:
        _print_bench(report.bench)
    print_outcome(report, verbose)


def _print_bench(bench: Mapping[str, Any]) -> None:
    """The original and the result in ONNX Runtime."""
    shapes = ", ".join(f"{name} {shape}" for name, shape in bench["shapes"].items())
    rows = []
    for name in ("original", "result"):
        row = bench[name]
        times = [round(row[key], 2) for key in ("ms", "cpu_ms")]
        rows.append([name, *times, mega(row["size_bytes"]), f"{row['error']:.2g}"])
    threads = f"{bench['threads']} thread{'s' if bench['threads'] > 1 else ''}"
    title = f"ONNX Runtime, {threads}, {bench['inputs']} ({shapes})"
    print_table(title, ["file", "ms", "CPU ms", "size", "error"], rows)
    if bench["busy"]:
        out.print("note: the machine was busy: compare CPU times, and measure again")
