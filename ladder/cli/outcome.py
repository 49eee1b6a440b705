"""What ``ladder compile`` and ``ladder quantize`` print: the result first, reasons on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ladder.cli.show import out, print_plan, print_table

SHOWN_NAMES = 3
MORE = "--verbose shows why each kernel was chosen, and the name of every weight that is skipped."


def print_outcome(report: Mapping[str, Any], verbose: bool) -> None:
    """Print the parts of a report; with ``verbose``, every reason and every name."""
    _print_sites(report["sites"])
    kernels, skipped = report.get("kernels", []), report["skipped"]
    for line in kernel_reasons(kernels) if verbose else kernel_counts(kernels):
        out.print(line)
    for line in skipped_lines(skipped, verbose):
        out.print(line)
    for note in report["notes"]:
        out.print(f"note: {note}")
    if report.get("plan"):
        print_plan(report["plan"])
    out.print(_checked(report["check"]))
    if report["assumed"]:
        out.print(f"Assumed: {', '.join(report['assumed'])}.")
    if not verbose and (kernels or skipped):
        out.print(MORE)


def summary(report: Mapping[str, Any]) -> str:
    """The bits per weight, and of what, with the limit that was asked for."""
    bits = f"{report['bits_per_weight']:.4g} bits per weight"
    if "file_bits_per_weight" in report:
        counts = [f"{report[name] / 1e6:.4g} M" for name in ("quantized_weights", "weights")]
        whole = f"{report['file_bits_per_weight']:.4g} over all {counts[1]} weights of the file"
        bits = f"{bits} for the {counts[0]} quantized weights, {whole}"
    limit = ((report.get("plan") or {}).get("asked") or {}).get("budget", "")
    return f"{bits} (asked: {limit})" if limit else bits


def _print_sites(sites: Sequence[Mapping[str, Any]]) -> None:
    by_type: dict[tuple[str, str, str], list[int]] = {}
    for site in sites:
        row = by_type.setdefault((site["role"], site["type"], site.get("form", "")), [0, 0])
        row[0] += 1
        row[1] += site["n"] * site["k"]
    shown = 3 if any(form for _, _, form in by_type) else 2  # an ONNX file has forms
    rows = [[*key[:shown], count, f"{n / 1e6:.2f} M"] for key, (count, n) in by_type.items()]
    print_table("Sites", [*("role", "type", "form")[:shown], "sites", "weights"], rows)


def kernel_counts(kernels: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each level: how many sites get each scheme, with which activations."""
    counted: dict[str, Counter[str]] = {}
    for row in kernels:
        how = f"{row['scheme']} with {row['activation']} activations"
        counted.setdefault(f"{row['level']} {row['function']}", Counter())[how] += row["sites"]
    return [
        f"{where}: {', '.join(f'{n} x {how}' for how, n in found.items())}"
        for where, found in counted.items()
    ]


def kernel_reasons(kernels: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each choice of a kernel, with its reason."""
    lines = []
    for row in kernels:
        stack = f" ({row['stack']} as one)" if row["stack"] else ""
        what = f"{row['level']} {row['function']}: {row['sites']} x {row['type']}{stack}"
        how = f"{row['scheme']} with {row['activation']} activations"
        lines.append(f"{what}: {how}: {row['reason']}")
    return lines


def skipped_lines(skipped: Sequence[Mapping[str, str]], verbose: bool) -> list[str]:
    """A line for each reason, with the names of the weights that it keeps float."""
    by_reason: dict[str, list[str]] = {}
    for row in skipped:
        by_reason.setdefault(row["reason"], []).append(row["name"])
    return [f"skipped: {_names(names, verbose)}: {why}" for why, names in by_reason.items()]


def _names(names: Sequence[str], verbose: bool) -> str:
    most = len(names) if verbose else SHOWN_NAMES
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _checked(check: Mapping[str, Any]) -> str:
    if check["error"] is None:
        return f"Not compared with ONNX Runtime: {check['reason']}."
    return f"Compared with the original in ONNX Runtime: error {check['error']:.1g}."
