"""``ladder compile`` and ``ladder quantize``. With a budget, both make a plan first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.parameters import takes
from ladder.cli.show import mega, out, print_json, print_plan, print_table, progress
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions


@takes(CompileOptions, PlanOptions, leave_out=("pareto",))
def compile_command(
    model: o.Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Artifact folder to write.")],
    asked: dict[str, Any],
    save_plan: o.SavePlan = None,
    threads: o.Threads = 0,
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
    _print_report(report)
    feed = "--prompt TEXT" if report.language_model else "--input FILE.npz"
    out.print(f"Wrote {output} in {report.seconds} s. Next: ladder run {output} {feed}")


@takes(QuantizeOptions, PlanOptions, leave_out=NOT_FOR_FILES)
def quantize_command(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx")],
    asked: dict[str, Any],
    save_plan: o.SavePlan = None,
    json: o.Json = False,
) -> None:
    """Give an ONNX file low-bit weights, for any ONNX Runtime. A budget makes a plan first."""
    from ladder.planning.one_step import quantize_in_one_step

    with progress():
        report = quantize_in_one_step(source, output, asked, save_plan)
    if json:
        print_json(report.to_json())
        return
    _print_report(report)
    for line in report.expected:
        out.print(f"Expected: {line}.")
    if report.bench:
        _print_bench(report.bench)
    out.print(f"Wrote {output}: {mega(report.size_bytes_before)} -> {mega(report.size_bytes)}.")


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


def _bits(report: Mapping[str, Any]) -> str:
    """The bits per weight, and of what."""
    bits = f"{report['bits_per_weight']:.4g} bits per weight"
    if "file_bits_per_weight" not in report:
        return bits
    counts = [f"{report[name] / 1e6:.4g} M" for name in ("quantized_weights", "weights")]
    whole = f"{report['file_bits_per_weight']:.4g} over all {counts[1]} weights of the file"
    return f"{bits} for the {counts[0]} quantized weights, {whole}"


def _checked(check: Mapping[str, Any]) -> str:
    if check["error"] is None:
        return f"Not compared with ONNX Runtime: {check['reason']}."
    return f"Compared with the original in ONNX Runtime: error {check['error']:.1g}."


def _print_report(report: Mapping[str, Any]) -> None:
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
    for row in report["skipped"]:
        out.print(f"skipped: {row['name']}: {row['reason']}")
    for note in report["notes"]:
        out.print(f"note: {note}")
    if report.get("plan"):
        print_plan(report["plan"])
    limit = ((report.get("plan") or {}).get("asked") or {}).get("budget", "")
    asked = f" (asked: {limit})" if limit else ""
    out.print(f"{_bits(report)}, {mega(report['size_bytes'])} on disk{asked}.")
    out.print(_checked(report["check"]))
    out.print(f"Assumed: {', '.join(report['assumed'])}." if report["assumed"] else "")
