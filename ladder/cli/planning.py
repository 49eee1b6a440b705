"""``ladder plan``: choose a type for each site within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.parameters import takes
from ladder.cli.show import (
    out,
    print_json,
    print_plan,
    print_sizes,
    print_table,
    print_uniform,
    progress,
)
from ladder.errors import LadderError
from ladder.options.requests import PlanOptions


@takes(PlanOptions)
def plan_command(
    model: o.Model,
    asked: dict[str, Any],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Plan file (TOML) to write.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the Pareto front to a .png or .svg file.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show the sizes that plans can have; measure nothing."),
    ] = False,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Choose a type for each site: the least predicted loss within a budget, solved exactly."""
    o.set_threads(threads)
    if dry_run:
        _refuse_files(output, picture)
        _print_sizes(model, asked, json)
        return
    from ladder.options.split import plan_options
    from ladder.planning.make import plan_model
    from ladder.planning.pareto import check_picture

    if picture is not None:
        check_picture(picture)
    options = plan_options({"pareto": picture is not None, **asked})
    if output is not None and options.budget is None:
        raise LadderError("-o needs a budget for the plan, for example --bpw 3.5")
    with progress():
        planned = plan_model(model, options)
    if output is not None:
        planned.save(output)
    if picture is not None:
        planned.draw(picture)
    if json:
        print_json(planned.report.to_json())
        return
    for path in filter(None, (output, picture)):
        out.print(f"Wrote {path}")
    _print(planned.report)
    if planned.plan is not None:
        print_plan(planned.plan.report)


def _refuse_files(output: Path | None, picture: Path | None) -> None:
    for flag, path in (("-o", output), ("--picture", picture)):
        if path is not None:
            raise LadderError(f"{flag} {path}: --dry-run makes no plan; leave out one of them")


def _print_sizes(model: Path, asked: Mapping[str, Any], json: bool) -> None:
    from ladder.options.schema import options_of
    from ladder.planning.dry_run import plan_sizes

    with progress():
        sizes = plan_sizes(model, options_of(PlanOptions, {"pareto": True, **asked}))
    if json:
        print_json(sizes.to_json())
        return
    ends = {"the smallest plan": sizes.least, "the largest plan": sizes.most}
    print_sizes("Sizes of plans", {**sizes.uniform, **ends})
    for note in sizes.notes:
        out.print(f"note: {note}")


def _print(report: Mapping[str, Any]) -> None:
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


def _print_types(report: Mapping[str, Any]) -> None:
    counted: dict[tuple[str, str], int] = {}
    for name, type in report["plan"].items():
        role = report["reasons"][name].partition(":")[0]
        counted[role, type] = counted.get((role, type), 0) + 1
    rows = [[role, type, count] for (role, type), count in sorted(counted.items())]
    print_table("Plan", ["role", "type", "sites"], rows)
