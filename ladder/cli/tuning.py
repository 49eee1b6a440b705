"""``ladder tune kernels``."""

from __future__ import annotations

from typing import Annotated

import typer

from ladder.cli import options as o
from ladder.cli.show import out, print_json, print_table, progress
from ladder.cli.words import App

tune_app = App("Measure this machine, for later commands.")


@tune_app.callback()
def tune() -> None:
    """Measure this machine, for later commands."""


@tune_app.command("kernels")
def tune_kernels(
    target: o.Target = "native",
    types: Annotated[
        str,
        typer.Option(help="Types to time, separated by commas, or 'all' (default: common ones)."),
    ] = "",
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Time kernels on this machine; later commands choose kernels by these times."""
    o.set_threads(threads)
    from ladder.timing.steadiness import busy_note
    from ladder.timing.tune import COMMON, tune_kernels

    with progress():
        rows, path = tune_kernels(target, tuple(filter(None, types.split(","))) or COMMON)
    if json:
        print_json({"file": str(path) if path else None, "rows": rows})
        return
    schemes = dict.fromkeys(scheme for row in rows for scheme in row["times"])
    columns = ["type", "M", *(f"{scheme}, ms" for scheme in schemes), "chosen", "before"]
    cells = [
        [row["type"], row["m"], *_times(row, list(schemes)), row["chosen"], row["before"]]
        for row in rows
    ]
    print_table("", columns, cells)
    changed = sum(row["chosen"] != row["before"] for row in rows)
    if path is not None:
        out.print(f"{changed} of {len(rows)} choices change. Saved to {path}")
    unsteady = sum(not row["steady"] for row in rows)
    if unsteady:
        out.print(f"note: {busy_note(unsteady, len(rows), 'run ladder tune kernels again')}")


@tune_app.command("show")
def tune_show(json: o.Json = False) -> None:
    """Show what was measured on this machine."""
    from ladder.timing.tune import tuned_tables

    tables = tuned_tables()
    if json:
        print_json(tables)
        return
    rows = [[t["level"], ", ".join(t["seconds"]), t["measured"], t["file"]] for t in tables]
    if rows:
        print_table("", ["level", "elements", "measured", "file"], rows)
    else:
        out.print("Nothing was tuned on this machine: kernels are chosen by the shipped times.")


@tune_app.command("reset")
def tune_reset(json: o.Json = False) -> None:
    """Remove what was measured on this machine; kernels are chosen by the shipped times again."""
    from ladder.timing.tune import reset_tuned

    removed = reset_tuned()
    if json:
        print_json({"removed": removed})
    else:
        out.print("\n".join(f"Removed {path}" for path in removed) or "Nothing to remove.")


def _times(row: dict[str, dict[str, float]], schemes: list[str]) -> list[str]:
    times = row["times"]
    return [f"{1e3 * times[s]:.3g}" if s in times else "-" for s in schemes]
