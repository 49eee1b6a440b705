"""``ladder project``."""

from __future__ import annotations

from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.show import out, print_json, print_table
from ladder.errors import LadderError

MODES = ("int8", "table8")


def project_command(
    target: Annotated[
        str | None, typer.Option(help="A device (default: compare with T-MAC's published figures).")
    ] = None,
    type: Annotated[str, typer.Option(help="Type of the weights.")] = "int4:g128",
    shape: Annotated[
        str, typer.Option(help="1xNxK: one token, N out features, K in features.")
    ] = "1x4096x4096",
    activation: Annotated[str, typer.Option(help="int8 or table8.")] = "int8",
    cores: Annotated[int, typer.Option(help="Cores in use (0: all).")] = 0,
    json: o.Json = False,
) -> None:
    """Estimate the best time on a device from its published figures; nothing is measured."""
    from ladder.hardware.projection import LABEL, project, table
    from ladder.ir.dtype import DType

    if target is None:
        rows = table()
        if json:
            print_json({"label": LABEL, "rows": rows})
        else:
            columns = [key.replace("_", " ") for key in rows[0]]
            print_table(LABEL, columns, [[*row.values()] for row in rows])
        return
    n, k = _sizes(shape)
    if activation not in MODES:
        raise LadderError(f"--activation {activation}: give one of {', '.join(MODES)}")
    row = project(target, DType.parse(type), n, k, cores, activation)
    if json:
        print_json(row)
        return
    out.print(f"{LABEL}: {row['seconds'] * 1e3:.4g} ms, bound by {row['bound_by']}")
    for bound in row["bounds"]:
        out.print(f"  {bound['what']}: {bound['arithmetic']} = {bound['seconds'] * 1e3:.4g} ms")
    if row["not_projected"]:
        out.print(f"  not projected: {row['not_projected']}")
    for source in row["sources"]:
        out.print(f"  from {source}")


def _sizes(shape: str) -> tuple[int, int]:
    parts = shape.split("x")
    if len(parts) != 3 or parts[0] != "1" or not all(p.isdigit() and int(p) for p in parts):
        raise LadderError(f"--shape {shape}: give 1xNxK, for example 1x4096x4096")
    return int(parts[1]), int(parts[2])
