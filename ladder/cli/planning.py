"""``ladder plan``: which site gets which type within a budget."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli.show import out, print_json, print_table, progress
from ladder.errors import LadderError

DEFAULT_TYPES = "int2:g64:fp16,int3:g64:fp16,int4:g64:fp16,int8:row"


def plan_command(
    model: Annotated[Path, typer.Argument(help="ONNX or GGUF file, or a Hugging Face folder.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Plan file (TOML) to write.")
    ] = None,
    bpw: Annotated[str, typer.Option(help="Bits per weight at most, scales counted.")] = "",
    size: Annotated[str, typer.Option(help="Bytes of all weights at most: 180MB, 96MiB.")] = "",
    latency: Annotated[str, typer.Option(help="Time of a decoded token at most: 20ms.")] = "",
    max_kl: Annotated[
        str, typer.Option("--max-kl", help="Nats a token at most; the smallest such plan.")
    ] = "",
    prefer: Annotated[str, typer.Option(help="memory=1,latency=1,accuracy=2.")] = "",
    minimise: Annotated[str, typer.Option(help="loss, size or latency, where not implied.")] = "",
    types: Annotated[str, typer.Option(help="Types to choose among, with commas.")] = DEFAULT_TYPES,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help="PATTERN=TYPE for sites or roles; repeat.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Site name pattern that stays float; repeatable.")
    ] = None,
    calib: Annotated[
        Path | None, typer.Option(help="Text (UTF-8 or JSONL); NPZ of inputs for other models.")
    ] = None,
    windows: Annotated[int, typer.Option(help="Windows of calibration text.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of a window.")] = 128,
    rounding: Annotated[str, typer.Option(help="Rounding that the plan is made for.")] = "mse",
    workers: Annotated[
        str, typer.Option(help="Processes (0: this one), or dask://HOST:PORT.")
    ] = "0",
    state: Annotated[
        Path | None, typer.Option(help="File that scores are saved to as they come.")
    ] = None,
    target: Annotated[str, typer.Option(help="See 'ladder targets'. native: this CPU.")] = "native",
    costs: Annotated[
        Path | None, typer.Option(help="Times of products measured on another device.")
    ] = None,
    rest: Annotated[
        str, typer.Option(help="What a token takes beside products: 3ms. Else measured.")
    ] = "",
    verify: Annotated[bool, typer.Option(help="Run the plan once and measure its loss.")] = True,
    pareto: Annotated[bool, typer.Option("--pareto", help="The whole front.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the front: a .png or .svg file.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores of this process.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Choose each site's type: the least predicted loss within a budget, solved exactly."""
    from ladder.pareto import check_picture
    from ladder.planning import PlanWish, plan_model

    if threads < 0:
        raise LadderError(f"--threads {threads}: give a positive number, or 0 for all cores")
    if threads:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    if picture is not None:
        check_picture(picture)
    wish = PlanWish(
        size=size, bpw=bpw, latency=latency, max_kl=max_kl, prefer=prefer, minimise=minimise,
        types=tuple(filter(None, types.split(","))), rules=tuple(rule or ()),
        keep=tuple(keep or ()), calib=calib, windows=windows, tokens=tokens, rounding=rounding,
        workers=workers, state=state, target=target, costs=costs, rest=rest,
        pareto=pareto or picture is not None, verify=verify,
    )  # fmt: skip
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
    for path in filter(None, (output, picture)):
        out.print(f"Wrote {path}")


def _print(report: dict[str, Any]) -> None:
    from ladder.pareto import table

    metric = report["metric"]
    for name, rows in report.get("fronts", {}).items():
        columns, cells = table(rows, metric)
        print_table(f"Front of loss and {name}", columns, cells)
    rows = [_cells(type, row) for type, row in report["uniform"].items()]
    columns = ["plan", metric.upper(), "MB", "bpw"]
    if "predicted" in report:
        rows.append(_cells("this plan", report["predicted"]))
        _print_types(report)
    timed = len(rows[0]) > len(columns)
    print_table("Predicted", [*columns, *(["ms a token"] if timed else [])], rows)
    for note in report["notes"]:
        out.print(f"note: {note}")
    if "predicted" in report:
        _print_plan(report, metric)


def _cells(name: str, row: dict[str, float]) -> list[Any]:
    times = [1e3 * row["seconds"]] if "seconds" in row else []
    return [name, row["loss"], row["bytes"] / 1e6, row["bpw"], *times]


def _print_types(report: dict[str, Any]) -> None:
    counted: dict[tuple[str, str], int] = {}
    for name, type in report["plan"].items():
        role = report["reasons"][name].partition(":")[0]
        counted[role, type] = counted.get((role, type), 0) + 1
    rows = [[role, type, count] for (role, type), count in sorted(counted.items())]
    print_table("Plan", ["role", "type", "sites"], rows)


def _print_plan(report: dict[str, Any], metric: str) -> None:
    from ladder.passes.allocation.budget import show_size

    predicted, measured = report["predicted"], report["measured"]
    size = f"{predicted['bpw']:.4g} bits per weight, {show_size(predicted['bytes'])} of weights"
    out.print(f"{report['asked']}: {size}; least {report['minimised']} ({report['status']}).")
    text = f"{metric.upper()} predicted {predicted['loss']:.4g}"
    if measured:
        text += f", measured {measured[metric]:.4g}"
    if "uniform" in measured:
        text += f"; {measured['uniform']} everywhere: {measured[f'uniform_{metric}']:.4g}"
    if "seconds" in measured:
        times = [f"{1e3 * row['seconds']:.4g} ms" for row in (predicted, measured)]
        text += f"; a token predicted {times[0]}, measured {times[1]}"
    out.print(f"{text}.")
