"""``ladder report``: the page about an artifact, and what was measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.show import err, out, print_json


def report_command(
    artifact: o.Artifact,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file (default: DIR/report.html).")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text that the model continues, as a sample on the page.")
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
    if json:
        print_json({**manifest["report"], "measured": measured(artifact)})
        return
    target = output or artifact / REPORT
    write_page(manifest, target, artifact)
    out.print(f"Wrote {target}")
