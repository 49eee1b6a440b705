"""Files and functions stay small enough to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from sources import ROOT, own_modules, python_files

LONGEST_FILE, LONGEST_BODY = 400, 60
USUAL_PARAMETERS, MOST_PARAMETERS = 5, 9  # at the 90th percentile, and of any function
LOOSE_MODULES = 8  # directly in ladder/


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = body_lines(node)
            if lines > LONGEST_BODY:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"


def test_files() -> None:
    sizes = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in python_files()}
    long = [f"{path}: {lines} lines" for path, lines in sizes.items() if lines > LONGEST_FILE]
    assert not long, f"over {LONGEST_FILE} lines:\n" + "\n".join(long)


def test_functions() -> None:
    long = [line for path in python_files() for line in long_functions(path)]
    assert not long, f"bodies over {LONGEST_BODY} lines:\n" + "\n".join(long)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without ``self`` and ``cls``."""
    a = node.args
    named = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    bound = named[:1] in (["self"], ["cls"])
    return len(named) - bound + (a.vararg is not None) + (a.kwarg is not None)


def test_parameter_lists() -> None:
    counts = sorted(
        (parameters(node), f"{module}.{node.name}")
        for module, path in own_modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert counts[int(0.9 * len(counts))][0] <= USUAL_PARAMETERS
    assert [row for row in counts if row[0] > MOST_PARAMETERS] == []


def test_few_modules_are_outside_packages() -> None:
    loose = [name for name, path in own_modules().items() if path.parent == ROOT / "ladder"]
    assert len(loose) <= LOOSE_MODULES, loose
