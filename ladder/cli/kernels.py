"""``ladder kernels build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.show import mega, out, print_json, progress
from ladder.errors import LadderError

kernels_app = typer.Typer(no_args_is_help=True, help="The kernels, built ahead of time.")


@kernels_app.callback()
def kernels() -> None:
    """The kernels, built ahead of time."""


@kernels_app.command("build")
def build_kernels(
    target: o.Target = "native",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Also copy the library to this file; of an NPU or GPU: a folder."
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Of an NPU or GPU: kernels of this type; again for more."),
    ] = None,
    json: o.Json = False,
) -> None:
    """One library of every type's kernels for a target; 'bench kernel' and 'tune' then use it."""
    from ladder.hardware.targets import ACCELERATORS, levels_of
    from ladder.timing import kernel_cache

    if target in ACCELERATORS:
        build_folder(target, types or [], output, json)
        return
    if types:
        raise LadderError(f"--type goes with {', '.join(ACCELERATORS)}; {target} gets all types")
    levels = levels_of(target)
    if output is not None and len(levels) > 1:
        raise LadderError(f"--output takes one library, and {target} has {len(levels)}")
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
    """Files for a host program that calls an NPU or a GPU."""
    from ladder.ir.dtype import DType
    from ladder.timing import kernel_cache

    if output is None:
        raise LadderError(f"the kernels of {target} are a folder of files: give one with -o")
    with progress():
        row = kernel_cache.build_accelerator(target, [DType.parse(t) for t in types], output)
    if json:
        print_json(row)
        return
    out.print(f"{target}: {row['kernels']} kernels of {len(row['types'])} types in {output}")
    for type, why in row["left_out"].items():
        out.print(f"  left out: {type}: {why}")
