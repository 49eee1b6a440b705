"""``ladder plan``: which site gets which type within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.show import out, print_json, print_plan, print_table, print_uniform, progress
from ladder.errors import LadderError


def plan_command(
    ctx: typer.Context,
    model: o.Model,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Plan file (TOML) to write.")
    ] = None,
    bpw: o.Bpw = "",
    size: o.Size = "",
    latency: o.Latency = "",
    max_kl: o.MaxKl = "",
    prefer: o.Prefer = "",
    minimise: o.Minimise = "",
    types: o.Types = o.TYPES,
    keep: o.Keep = None,
    rules: o.Rules = None,
    calib: o.Calib = None,
    windows: o.Windows = 8,
    tokens: o.Tokens = 128,
    rounding: o.Rounding = "mse",
    outliers: o.Outliers = "none",
    workers: o.Workers = "0",
    state: o.State = None,
    target: o.Target = "native",
    activation: o.Activation = "int8",
    chunk: o.Chunk = 64,
    costs: o.Costs = None,
    rest: o.Rest = "",
    verify: o.Verify = True,
    long_tokens: o.LongTokens = 0,
    refine: o.Refine = 0,
    pareto: Annotated[bool, typer.Option("--pareto", help="The whole front.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the front: a .png or .svg file.")
    ] = None,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Choose each site's type: the least predicted loss within a budget, solved exactly."""
    o.set_threads(threads)
    from ladder.options.requests import PlanWish, wish_of
    from ladder.planning.make import plan_model
    from ladder.planning.pareto import check_picture

    if picture is not None:
        check_picture(picture)
    wish = wish_of({**o.given(ctx), "pareto": pareto or picture is not None}, PlanWish)
    if output is not None and wish.budget is None:
        raise LadderError("-o needs a budget for the plan, for example --bpw 3.5")
    with progress():
        planned = plan_model(model, wish)
    if output is not None:
        planned.save(output)
    if picture is not None:
        planned.draw(picture)
    if json:
        print_json(planned.report)
        return
    _print(planned.report)
    if planned.plan is not None:
        print_plan(planned.plan.report)
    for path in filter(None, (output, picture)):
        out.print(f"Wrote {path}")


def _print(report: dict[str, Any]) -> None:
    from ladder.planning.pareto import table

    for name, rows in report.get("fronts", {}).items():
        columns, cells = table(rows, report["metric"])
        print_table(f"Front of loss and {name}", columns, cells)
    if "plan" in report:
        _print_types(report)
    else:
        print_uniform(report["uniform"], {}, report["metric"])
    for note in report["notes"] if "plan" not in report else ():
        out.print(f"note: {note}")
    out.print(f"Assumed: {', '.join(report['assumed'])}." if report["assumed"] else "")


def _print_types(report: dict[str, Any]) -> None:
    counted: dict[tuple[str, str], int] = {}
    for name, type in report["plan"].items():
        role = report["reasons"][name].partition(":")[0]
        counted[role, type] = counted.get((role, type), 0) + 1
    rows = [[role, type, count] for (role, type), count in sorted(counted.items())]
    print_table("Plan", ["role", "type", "sites"], rows)
