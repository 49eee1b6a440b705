"""``ladder hardware list``, ``emit``, ``synth`` and ``sweep``."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.show import err, out, print_json, print_table, progress
from ladder.cli.words import App
from ladder.errors import LadderError
from ladder.hardware.tensor_cores import PERIOD, PRESETS, TensorCore, tensor_core

if TYPE_CHECKING:
    from ladder.codegen.hardware.measure import Measured
    from ladder.codegen.hardware.workloads import Workload

COLUMNS = {
    "unit": "unit",
    "weight_bits": "bits",
    "area_mm2": "mm2",
    "path_ns": "path, ns",
    "gops_per_mm2": "GOPS/mm2",
    "pj_per_operation": "pJ/operation",
    "milliwatts": "mW",
}
Unit = Annotated[str, typer.Argument(help="As 'hardware list', with any M, N and K.")]
Period = Annotated[float, typer.Option(help="Of the clock, in ns.")]
Model = Annotated[
    Path | None,
    typer.Option(help="Language model whose layers are computed (default: Gaussian data)."),
]
hardware_app = App("Tensor cores as hardware: Verilog, area, timing and energy.")


@hardware_app.callback()
def hardware() -> None:
    """Tensor cores as hardware: Verilog, area, timing and energy."""


@hardware_app.command("list")
def list_command(json: o.Json = False) -> None:
    """List the units: look-up units, and those that they are compared with."""
    rows = [_described(tensor_core(name)[0]) for name in PRESETS]
    if json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(row.values()) for row in rows])


def _described(core: TensorCore) -> dict[str, Any]:
    return {
        "unit": core.name,
        "kind": core.kind,
        "M": core.m,
        "N": core.n,
        "K": core.k,
        "activations": core.activation.name,
        "operations a cycle": round(core.operations(1)),
        "weights": "1 bit a cycle" if core.serial else f"{core.activation.bits} bits a cycle",
    }


@hardware_app.command("emit")
def emit_command(
    unit: Unit,
    output: Annotated[Path, typer.Option("-o", "--output", help="Verilog file to write.")],
    json: o.Json = False,
) -> None:
    """Write a unit as Verilog."""
    from ladder.codegen.hardware.tools import check_amaranth

    core, _ = tensor_core(unit)
    check_amaranth()
    from ladder.codegen.hardware.emit import UNIT, verilog_of
    from ladder.support.files import file_aside

    text = verilog_of(core)
    with file_aside(output) as aside:
        aside.write_text(text)
    if json:
        print_json({"file": str(output), "top": UNIT, **_described(core)})
    else:
        out.print(f"Wrote {output}; the top module is {UNIT}")


@hardware_app.command("synth")
def synth_command(
    preset: Annotated[
        list[str] | None, typer.Option(help="As 'hardware list' (default: all). Repeatable.")
    ] = None,
    bits: Annotated[
        str, typer.Option(help="Bits of weights, e.g. 1,2,4 (default: all that are usual).")
    ] = "",
    model: Model = None,
    period: Period = PERIOD,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for netlists (default: none).")
    ] = None,
    trust_remote_code: o.TrustRemoteCode = False,
    json: o.Json = False,
) -> None:
    """Map units to gates by yosys and OpenSTA; measure area, longest path, and energy."""
    units = [tensor_core(name) for name in preset or PRESETS]
    widths = _numbers("--bits", bits)
    asked = [(core, widths or ([own] if own else [])) for core, own in units]
    _show(_measured(asked, model, period, output, trust_remote_code), json)


@hardware_app.command("sweep")
def sweep_command(
    m: Annotated[str, typer.Option(help="Rows of activations.")] = "1,2,4",
    n: Annotated[str, typer.Option(help="Columns of weights.")] = "16,64,128",
    k: Annotated[str, typer.Option(help="Activations of a table.")] = "3,4,5",
    table_bits: Annotated[
        str, typer.Option(help="Bits of an entry; 0: exact, computed in the unit; 8: rounded.")
    ] = "0,8",
    bits: Annotated[int, typer.Option(help="Bits of weights.")] = 1,
    model: Model = None,
    period: Period = PERIOD,
    picture: Annotated[
        Path | None, typer.Option(help="Draw density and energy (PNG or SVG).")
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure look-up units of many sizes, and draw those that no other one excels."""
    from ladder.planning.pareto import check_picture
    from ladder.planning.unit_front import draw_units

    if picture is not None:
        check_picture(picture)
    sizes = [_numbers(f"--{name}", text) for name, text in (("m", m), ("n", n), ("k", k))]
    tables = [f"t{t}" if t else "" for t in _numbers("--table-bits", table_bits, least=0)]
    names = [f"ltc-m{x}n{y}k{z}-int8{t}" for (x, y, z), t in product(product(*sizes), tables)]
    asked = [(tensor_core(name)[0], [bits]) for name in names]
    rows = _measured(asked, model, period)
    if picture is not None:
        draw_units(picture, [row.json() for row in rows])
    _show(rows, json)


def _numbers(option: str, text: str, least: int = 1) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) >= least for part in parts):
        raise LadderError(f"{option} {text}: give numbers of {least} or more, for example 1,2,4")
    return [int(part) for part in parts]


def _measured(
    asked: list[tuple[TensorCore, list[int]]],
    model: Path | None,
    period: float,
    folder: Path | None = None,
    trust: bool = False,
) -> list[Measured]:
    from ladder.codegen.hardware.tools import check_amaranth, check_tools

    if period <= 0:
        raise LadderError(f"--period {period}: give a time above 0 ns")
    check_amaranth()
    check_tools()
    from ladder.codegen.hardware.measure import measure

    rows: list[Measured] = []
    with progress():
        work = _workload(model, trust)
        for core, widths in asked:
            err.print(f"{core.name} ...")
            place = folder / core.name if folder else None
            rows += measure(core, widths, work, period, place)
    return rows


def _workload(model: Path | None, trust: bool) -> Workload:
    if model is not None:
        from ladder.evaluation.tensor_cores import layers_of

        return layers_of(model, trust)
    from ladder.codegen.hardware.workloads import gaussian

    err.print("The energy is that of Gaussian data; --model takes a language model's layers.")
    return gaussian()


def _show(rows: list[Measured], json: bool) -> None:
    values = [row.json() for row in rows]
    if json:
        print_json(values)
        return
    print_table("", list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in values])
    out.print(f"{rows[0].library}, {rows[0].period_ns:g} ns; {rows[0].data}")
    for row in rows:
        if not row.meets_timing:
            out.print(f"{row.unit} needs {row.path_ns:g} ns: longer than the period")
