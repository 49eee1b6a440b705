"""``ladder kernels build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.show import mega, out, print_json, progress
from ladder.cli.words import App
from ladder.errors import LadderError

kernels_app = App("The kernels, built ahead of time.")


@kernels_app.callback()
def kernels() -> None:
    """The kernels, built ahead of time."""


@kernels_app.command("build")
def build_kernels(
    target: o.Target = "native",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to copy the library to; for an NPU or GPU, a folder to write.",
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="For an NPU or GPU: build only this type. Repeatable."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Build the kernels of every type for a target; 'bench kernel' and 'tune' then use them."""
    from ladder.hardware.targets import ACCELERATORS, levels_of
    from ladder.timing import kernel_cache

    if target in ACCELERATORS:
        build_folder(target, types or [], output, json)
        return
    if types:
        raise LadderError(f"--type is only for {', '.join(ACCELERATORS)}: {target} gets every type")
    levels = levels_of(target)
    if output is not None and len(levels) > 1:
        raise LadderError(
            f"--output takes one library, but {target} has {len(levels)}: leave it out"
        )
    with progress():
        rows = [kernel_cache.build(level, output) for level in levels]
    if json:
        print_json(rows)
        return
    for row in rows:
        how = f"built in {row['seconds']} s" if row["built"] else "built before"
        out.print(f"{row['level']}: {row['types']} types, {mega(row['size_bytes'])}, {how}")
        out.print(f"  {row['file']}")


def build_folder(target: str, types: list[str], output: Path | None, json: bool) -> None:
    """Write the files for a host program that calls an NPU or a GPU."""
    from ladder.ir.dtype import DType
    from ladder.timing import kernel_cache

    if output is None:
        raise LadderError(f"the kernels of {target} are several files: give a folder with -o")
    with progress():
        row = kernel_cache.build_accelerator(target, [DType.parse(t) for t in types], output)
    if json:
        print_json(row)
        return
    out.print(f"{target}: {row['kernels']} kernels of {len(row['types'])} types in {output}")
    for type, why in row["left_out"].items():
        out.print(f"  left out: {type}: {why}")
