"""Seconds of every product that a plan may hold: measured here, from a device's file, or a model.

Times measured here are kept in the cache by CPU, level, threads and Ladder's own source, so that
another plan for the same shapes measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ladder import cache
from ladder.bench_kernel import prepared, time_calls
from ladder.costs import cpu_name, machine_of
from ladder.errors import LadderError
from ladder.files import file_aside
from ladder.ir.dtype import DType
from ladder.ir.facts import ProductCosts
from ladder.passes.choose_kernel import choose
from ladder.progress import track
from ladder.runtime.session import threads
from ladder.targets import Level, levels_of, runs_here

Shape = tuple[int, int]  # N, K
Key = tuple[str, int, Shape]  # type, M, shape
FORMAT = 1
SECONDS, ROUNDS = 0.08, 5  # a round, and how many; their median is the time
# The model for a target that is not at hand: plain numbers of a small board, and said to be so.
BYTES_PER_SECOND, PRODUCTS_PER_SECOND, CALL_SECONDS = 8e9, 50e9, 5e-6


def product_costs(
    types: Iterable[str],
    shapes: Iterable[Shape],
    chunk: int,
    target: str,
    activation: str = "int8",
    file: Path | None = None,
) -> ProductCosts:
    """The costs of ``types`` at ``shapes`` for M=1 and M=``chunk`` on ``target``."""
    level = levels_of(target)[-1]
    if file is not None:
        return read_costs(file)
    keys = [(t, m, s) for t in types for m in (1, chunk) for s in sorted(set(shapes))]
    if runs_here(level):
        return measured(keys, chunk, level, activation)
    return modelled(keys, chunk, level.name)


def measured(keys: Sequence[Key], chunk: int, level: Level, activation: str) -> ProductCosts:
    """Times on this machine; what the cache has is not measured again."""
    path = cache.entry("costs", cpu_name(), level.name, threads(), activation).with_suffix(".json")
    known: dict[str, float] = _json(path) if path.exists() else {}
    missing = [key for key in keys if _text(key) not in known]
    for key in track(missing, "time the products"):
        known[_text(key)] = _seconds(key, level, activation)
        with file_aside(path) as aside:
            aside.write_text(json.dumps(known))
    source = f"measured: {cpu_name()}, {level.name}, {threads()} threads"
    return _costs({key: known[_text(key)] for key in keys}, chunk, source)


def modelled(keys: Sequence[Key], chunk: int, level: str) -> ProductCosts:
    """An analytic model: bytes over a bandwidth or operations over a rate, and a fixed part."""
    times = {}
    for type, m, (n, k) in keys:
        moved = DType.parse(type).stored_bits(n, k) / 8 / BYTES_PER_SECOND
        times[type, m, (n, k)] = max(moved, m * n * k / PRODUCTS_PER_SECOND) + CALL_SECONDS
    source = (
        f"a model, not measured: {level} is not at hand; {BYTES_PER_SECOND / 1e9:g} GB/s or "
        f"{PRODUCTS_PER_SECOND / 1e9:g} G products/s, and {CALL_SECONDS * 1e6:g} us a product"
    )
    return _costs(times, chunk, source)


def write_costs(path: Path, costs: ProductCosts) -> None:
    """As a file for another machine's planning."""
    with file_aside(path) as aside:
        aside.write_text(json.dumps({"format": FORMAT, **asdict(costs)}, indent=1) + "\n")


def read_costs(path: Path) -> ProductCosts:
    """A file that ``write_costs`` wrote on the device."""
    if not path.is_file():
        raise LadderError(f"{path}: no such file of costs; make one on the device")
    table = _json(path)
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise LadderError(f"{path}: not a file of product costs, format {FORMAT}")
    decode, prefill = (_checked(path, table.get(name)) for name in ("decode", "prefill"))
    return ProductCosts(decode, prefill, f"{table.get('source', 'unknown')} (from {path.name})")


def _checked(path: Path, table: Any) -> dict[str, dict[str, float]]:
    """Types in their usual text, positive seconds."""
    try:
        rows = {
            str(DType.parse(type)): {shape: float(s) for shape, s in row.items()}
            for type, row in table.items()
        }
        if all(seconds > 0 for row in rows.values() for seconds in row.values()):
            return rows
    except (AttributeError, TypeError, ValueError):
        pass
    raise LadderError(f"{path}: its times are not type -> NxK -> positive seconds")


def _costs(times: dict[Key, float], chunk: int, source: str) -> ProductCosts:
    decode: dict[str, dict[str, float]] = {}
    prefill: dict[str, dict[str, float]] = {}
    for (type, m, (n, k)), seconds in times.items():
        if m == 1:
            decode.setdefault(type, {})[f"{n}x{k}"] = seconds
        if m == chunk:
            prefill.setdefault(type, {})[f"{n}x{k}"] = seconds
    return ProductCosts(decode, prefill, source)


def _seconds(key: Key, level: Level, activation: str) -> float:
    """Median seconds of one product by the kernel that a compilation would take."""
    type, m, (n, k) = key
    dtype = DType.parse(type)
    kernel = choose(dtype, activation, m, machine_of(level.name))
    call, sets, _ = prepared(dtype, m, n, k, kernel.activation, kernel.scheme, level)
    return time_calls(call, sets, SECONDS, ROUNDS)[0]


def _text(key: Key) -> str:
    type, m, (n, k) = key
    return f"{type} {m}x{n}x{k}"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LadderError(f"{path}: cannot be read as JSON: {error}") from error
