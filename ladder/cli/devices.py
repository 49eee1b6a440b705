"""``ladder bench device``: time a device, so that another machine can plan for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.benches import bench_app
from ladder.cli.show import out, print_json, print_table, progress
from ladder.errors import LadderError
from ladder.hardware.targets import NATIVE

__all__ = ["bench_app"]


@bench_app.command("device")
def device(
    output: Annotated[Path, typer.Option("-o", "--output", help="File of costs to write.")],
    model: Annotated[
        Path | None, typer.Argument(help="Its products are timed; or give --shape.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="NxK, out and in features; repeatable.")
    ] = None,
    types: o.Types = o.TYPES,
    target: o.Target = "native",
    activation: o.Activation = "int8",
    chunk: o.Chunk = 64,
    threads: o.Threads = 0,
    rpc: Annotated[
        str, typer.Option(help="HOST:PORT of TVM's RPC server on the device; empty: here.")
    ] = "",
    json: o.Json = False,
) -> None:
    """Time products on a device, one token and a prefill chunk: for 'ladder plan --costs'."""
    o.set_threads(0 if rpc else threads)
    if rpc and target == NATIVE:
        raise LadderError("--rpc needs the device's --target; see 'ladder targets'")
    if (model is None) == (not shape):
        raise LadderError("give a model, or its shapes with --shape NxK (repeat it)")
    if chunk < 1:
        raise LadderError(f"--chunk {chunk}: give a positive number")
    from dataclasses import asdict

    from ladder.planning.model_shapes import shapes_of_model
    from ladder.timing.product_costs import Setting, bench_device, parse_shapes

    with progress():
        shapes = parse_shapes(shape or ()) if model is None else shapes_of_model(model)
        setting = Setting.of(target, activation, chunk)
        wanted = filter(None, types.split(","))
        costs = bench_device(wanted, shapes, setting, output, rpc, threads)
    if json:
        print_json({"file": str(output), **asdict(setting), **asdict(costs)})
        return
    rows = [
        [type, place, 1e3 * seconds, 1e3 * costs.prefill[type][place]]
        for type, row in costs.decode.items()
        for place, seconds in row.items()
    ]
    print_table(costs.source, ["type", "N x K", "M=1, ms", f"M={chunk}, ms"], rows)
    out.print(f"Wrote {output}. Next: ladder plan MODEL --costs {output} --target {setting.target}")
