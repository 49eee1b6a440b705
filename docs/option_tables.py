"""A hook of mkdocs: puts tables of options, made from their schema, into pages."""

from __future__ import annotations

import re
from typing import Any

from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.schema import Described, described
from ladder.options.signature import accepted, options_in

MARK = re.compile(r"<!-- options: (\w+) -->")
TABLES = {
    "compile": options_in((CompileOptions, PlanOptions), ("pareto",)),
    "plan": options_in((PlanOptions,)),
    "export_onnx": options_in((QuantizeOptions, PlanOptions), NOT_FOR_FILES),
    "plugin": {n: o for n, o in described(CompileOptions).items() if o.option.plugin},
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark of a page by the table that it names."""
    return MARK.sub(lambda mark: table(TABLES[mark[1]]), markdown)


def table(options: dict[str, Described]) -> str:
    """Options by name: what they take, their default, and what they say on the command line."""
    rows = [_row(about) for about in options.values()]
    return "\n".join(["| option | type | default | meaning |", "|---|---|---|---|", *rows])


def _row(about: Described) -> str:
    default = "" if about.default in ("", (), None) else f"`{_shown(about.default)}`"
    shown = about.option.by or default
    cells = [f"`{about.name}`", f"`{accepted(about)}`", shown, about.option.help]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
