"""``ladder bench device``: time products on a device, so that another machine can plan for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.benches import bench_app
from ladder.cli.parameters import takes
from ladder.cli.show import out, print_json, print_table, progress
from ladder.errors import LadderError
from ladder.options.benchmarks import DeviceOptions
from ladder.options.schema import options_of

__all__ = ["bench_app"]


@bench_app.command("device")
@takes(DeviceOptions)
def device(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write the costs to.")],
    asked: dict[str, Any],
    model: Annotated[
        Path | None, typer.Argument(help="Model whose products are timed (or give --shape).")
    ] = None,
    trust_remote_code: o.TrustRemoteCode = False,
    json: o.Json = False,
) -> None:
    """Time products on a device, for one token and a prefill chunk, for 'ladder plan --costs'."""
    options = options_of(DeviceOptions, asked)
    options.check()
    if (model is None) == (not options.shape):
        raise LadderError("give a model, or its shapes with --shape NxK (repeat it)")
    o.set_threads(0 if options.rpc else options.threads)
    from dataclasses import asdict

    from ladder.planning.model_shapes import shapes_of_model
    from ladder.timing.product_costs import Setting, bench_device, parse_shapes

    with progress():
        shapes = (
            parse_shapes(options.shape)
            if model is None
            else shapes_of_model(model, trust_remote_code)
        )
        setting = Setting.of(options.target, options.activation, options.chunk)
        types = map(str, options.types)
        costs = bench_device(types, shapes, setting, output, options.rpc, options.threads)
    if json:
        print_json({"file": str(output), **asdict(setting), **asdict(costs)})
        return
    rows = [
        [type, place, 1e3 * seconds, 1e3 * costs.prefill[type][place]]
        for type, row in costs.decode.items()
        for place, seconds in row.items()
    ]
    print_table(costs.source, ["type", "N x K", "M=1, ms", f"M={options.chunk}, ms"], rows)
    out.print(f"Wrote {output}. Next: ladder plan MODEL --costs {output} --target {setting.target}")
