"""``ladder report`` and ``ladder compare``: pages about artifacts, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.show import err, out, print_json, print_table
from ladder.errors import LadderError


def report_command(
    artifact: o.Artifact,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file (default: DIR/report.html).")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text that the model continues, as a sample on the page.")
    ] = None,
    model_explorer: Annotated[
        Path | None,
        typer.Option(
            metavar="STEM", help="Also write node data: STEM.types.json and STEM.loss.json."
        ),
    ] = None,
    graph: Annotated[
        Path | None,
        typer.Option(help="ONNX file that the node data is about (default: the model)."),
    ] = None,
    verify_key: o.VerifyKey = None,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Write an HTML page: is it small, good and fast enough, and why each site has its type."""
    from ladder.evaluation.measured import SAMPLE, keep, measured
    from ladder.evaluation.report_page import write_page
    from ladder.runtime.artifact import REPORT, read_manifest

    o.set_threads(threads)
    manifest = read_manifest(artifact, verify_key)
    if prompt is not None:
        from ladder.evaluation.sample import sample

        err.print(keep(artifact, SAMPLE, sample(artifact, prompt, verify_key)))
    if model_explorer is not None:
        _write_node_data(manifest["report"], model_explorer, graph)
    elif graph is not None:
        raise LadderError(f"--graph {graph}: is for --model-explorer, which is missing")
    if json:
        print_json({**manifest["report"], "measured": measured(artifact)})
        return
    target = output or artifact / REPORT
    write_page(manifest, target, artifact)
    out.print(f"Wrote {target}")


def _write_node_data(report: Mapping[str, Any], stem: Path, graph: Path | None) -> None:
    from ladder.evaluation.model_explorer import write_node_data

    paths, missing = write_node_data(report, stem, graph)
    for path in paths:
        err.print(f"Wrote {path}")
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        err.print(f"not in the graph: {missing[0]}{more}")


def compare_command(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Artifact folders, GGUF or ONNX files.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page (.html) or picture (.svg) to write.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Show models side by side: size, types, and what was measured of their quality and speed."""
    from ladder.evaluation.compare import check_output, compare, compared_table, write_comparison

    if output is not None:
        check_output(output)
    rows = compare(models)
    if output is not None:
        write_comparison(output, rows)
    if json:
        print_json([row.to_json() for row in rows])
        return
    table = compared_table(rows)
    print_table("", table.heads, [[cell.text for cell in cells] for cells in table.cells])
    for row in rows:
        for note in row.notes:
            out.print(f"{row.name}: {note}")
    if output is not None:
        out.print(f"Wrote {output}")
