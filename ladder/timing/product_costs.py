"""Times of the products of plans: measured here, from the file of a device, or from a model.

Times measured here are cached by CPU, level, threads and Ladder's source, so that another plan for
the same shapes measures nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level, levels_of, runs_here
from ladder.ir.activation import FLOAT
from ladder.ir.activation import check as check_activation
from ladder.ir.dtype import DType
from ladder.ir.facts import ProductCosts
from ladder.ir.site import Site
from ladder.passes.allocation.parts import LOOK_UP
from ladder.passes.kernel_choice import choose, no_tiles
from ladder.runtime.session import threads
from ladder.support import cache, entries
from ladder.support.documents import is_number, parse_json
from ladder.support.files import file_aside
from ladder.support.processor import cpu_name
from ladder.support.progress import track
from ladder.timing.cost_tables import machine_of
from ladder.timing.product import prepared
from ladder.timing.steadiness import Timed, busy_note, steadiest, timed_calls

Shape = tuple[int, int]  # N, K
Key = tuple[str, int, Shape]  # type, M, shape
SIZE = re.compile("[1-9][0-9]{0,9}")  # of an axis
FORMAT = 1
TIMES = "times.json"  # in the cache
SECONDS, ROUNDS = 0.08, 5  # of a round, and rounds; the time is their median
# The model for a target that is not available: round numbers of a small board, reported as such.
BYTES_PER_SECOND, PRODUCTS_PER_SECOND, CALL_SECONDS = 8e9, 50e9, 5e-6


@dataclass(frozen=True)
class Setting:
    """What times are valid for. The threads and the CPU are in ``ProductCosts.source``."""

    target: str  # the name of a level
    activation: str
    chunk: int  # tokens in a prefill call

    @staticmethod
    def of(target: str, activation: str, chunk: int) -> Setting:
        """A setting for ``target`` as on the command line; a family means its highest level."""
        return Setting(levels_of(target)[-1].name, activation, chunk)


def product_costs(
    types: Iterable[str],
    shapes: Iterable[Shape],
    chunk: int,
    target: str,
    activation: str = "int8",
    file: Path | None = None,
    retime: bool = False,
) -> ProductCosts:
    """The costs of ``types`` at ``shapes`` for M=1 and M=``chunk`` on ``target``.

    Times come from the cache where it has them, unless they are to be taken again (``retime``).
    """
    types, shapes = list(types), sorted(set(shapes))
    setting = Setting.of(target, activation, chunk)
    if file is not None:
        costs = read_costs(file, setting)
        _refuse_missing(file, costs, types, shapes, setting)
        return costs
    keys = [(t, m, s) for t in types for m in (1, chunk) for s in shapes]
    level = LEVELS[setting.target]
    if runs_here(level):
        return measured(keys, chunk, level, activation, retime)
    return modelled(keys, chunk, level.name)


def bench_device(
    types: Iterable[str],
    shapes: Iterable[Shape],
    setting: Setting,
    path: Path,
    rpc: str = "",
    threads: int = 0,
) -> ProductCosts:
    """Measure on this machine, or on the one at ``rpc``, and write the file for planning.

    On another machine, the bits are compared first, and ``threads`` is its number (0: all).
    """
    level = LEVELS[setting.target]
    if check_activation(setting.activation) == FLOAT:
        raise LadderError("--activation fp32 has no low-bit products to time; give int8")
    if not rpc and not runs_here(level):
        raise LadderError(
            f"--target {level.name}: this CPU cannot run it; run ladder bench device on the device "
            "or TVM's RPC server there and give --rpc HOST:PORT"
        )
    keys = [(str(DType.parse(t)), m, s) for t in types for m in (1, setting.chunk) for s in shapes]
    if rpc:
        costs = measured_there(keys, setting.chunk, level, setting.activation, rpc, threads)
    else:
        costs = measured(keys, setting.chunk, level, setting.activation)
    write_costs(path, costs, setting)
    return costs


def parse_shapes(texts: Iterable[str]) -> list[Shape]:
    """Texts ``NxK`` -> (N, K): out features, in features."""
    found = []
    for text in texts:
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(SIZE.fullmatch(part) for part in parts):
            raise LadderError(f"--shape '{text}': write NxK, for example 4096x4096")
        found.append((int(parts[0]), int(parts[1])))
    return found


def shapes_of(sites: Iterable[Site]) -> list[Shape]:
    """The shapes of products; embedding tables are left out."""
    return sorted({(s.n, s.k) for s in sites if s.node.op_type != LOOK_UP})


def measured(
    keys: Sequence[Key], chunk: int, level: Level, activation: str, retime: bool = False
) -> ProductCosts:
    """Times on this machine; those in the cache are not measured again, unless ``retime``.

    Times that were taken while the machine was busy are not kept.
    """
    place = (cpu_name(), level.name, threads(), activation, machine_of(level.name))
    folder = cache.entry("costs", *place)
    known: dict[str, float] = _json(folder / TIMES) if entries.has(folder, TIMES) else {}
    missing = [key for key in keys if retime or _text(key) not in known]
    taken: dict[str, Timed] = {}
    for key in track(missing, "time the products"):
        timed = steadiest(partial(_timed, key, level, activation))
        taken[_text(key)] = timed
        if timed.steady:
            known[_text(key)] = timed.median
            with entries.put(folder, TIMES) as aside:
                aside.write_text(json.dumps(known))
    unsteady = {text: timed.median for text, timed in taken.items() if not timed.steady}
    busy = busy_note(len(unsteady), len(taken), "give --retime")
    source = f"measured: {cpu_name()}, {level.name}, {threads()} threads"
    times = {key: {**known, **unsteady}[_text(key)] for key in keys}
    return _costs(times, chunk, f"{source}; {busy}" if busy else source)


def measured_there(
    keys: Sequence[Key], chunk: int, level: Level, activation: str, rpc: str, threads: int
) -> ProductCosts:
    """Times on the device with the RPC server ``rpc``, after a comparison of bits."""
    from ladder.timing.rpc import Remote, way_of

    ways = {(type, m): way_of(type, m, activation, level) for type, m, _ in keys}
    device, times = Remote.connect(rpc, level, set(ways.values()), threads), {}
    try:
        different = sorted(set(ways.values()), key=str)
        compared = sum(device.check(way) for way in track(different, "compare the bits"))
        for key in track(keys, "time the products"):
            type, m, (n, k) = key
            times[key] = device.seconds(ways[type, m], m, n, k)
    finally:
        device.close()
    source = (
        f"measured: over RPC at {rpc}, {level.name}, {device.threads} threads; {compared} outputs "
        "had the same bits as on this machine"
    )
    return _costs(times, chunk, source)


def modelled(keys: Sequence[Key], chunk: int, level: str) -> ProductCosts:
    """An analytic model: bytes / bandwidth or operations / rate, plus a constant."""
    times = {}
    for type, m, (n, k) in keys:
        moved = DType.parse(type).stored_bits(n, k) / 8 / BYTES_PER_SECOND
        times[type, m, (n, k)] = max(moved, m * n * k / PRODUCTS_PER_SECOND) + CALL_SECONDS
    source = (
        f"a model, not measured: {level} is not available; {BYTES_PER_SECOND / 1e9:g} GB/s or "
        f"{PRODUCTS_PER_SECOND / 1e9:g} G products/s, and {CALL_SECONDS * 1e6:g} us a product"
    )
    return _costs(times, chunk, source)


def write_costs(path: Path, costs: ProductCosts, setting: Setting) -> None:
    """Write a file for planning on another machine."""
    table = {"format": FORMAT, **asdict(setting), **asdict(costs)}
    with file_aside(path) as aside:
        aside.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def read_costs(path: Path, setting: Setting) -> ProductCosts:
    """Read a file of ``write_costs``; refuse it if it was measured for another setting."""
    if not path.is_file():
        raise LadderError(f"{path}: no such costs file; make one with ladder bench device")
    table = _json(path)
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise LadderError(f"{path}: not a file of product costs, format {FORMAT}")
    decode, prefill = (_checked(path, table.get(name)) for name in ("decode", "prefill"))
    for name, wanted in asdict(setting).items():
        if table.get(name) != wanted:
            raise LadderError(
                f"{path}: was measured with --{name} {table.get(name)}, but the plan is for "
                f"--{name} {wanted}: change the plan, or measure again"
            )
    return ProductCosts(decode, prefill, f"{table.get('source', 'unknown')} (from {path.name})")


def _refuse_missing(
    path: Path, costs: ProductCosts, types: list[str], shapes: list[Shape], setting: Setting
) -> None:
    """Refuse missing times, with the command that measures them."""
    tables = (costs.decode, costs.prefill)
    absent = [
        (type, f"{n}x{k}")
        for type in types
        for n, k in shapes
        if any(f"{n}x{k}" not in table.get(type, {}) for table in tables)
    ]
    if absent:
        type, shape = absent[0]
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        every = " ".join(f"--shape {n}x{k}" for n, k in shapes)
        raise LadderError(
            f"{path}: has no time for {type} at {shape}{more}; on the device run: ladder bench "
            f"device --target {setting.target} --activation {setting.activation} --chunk "
            f"{setting.chunk} --types {','.join(types)} {every} -o {path.name}"
        )


def _checked(path: Path, table: Any) -> dict[str, dict[str, float]]:
    """The times with types in their usual text; refuse anything but positive seconds."""
    if not isinstance(table, dict) or not all(map(_is_times, table.values())):
        raise LadderError(f"{path}: its times are not type -> NxK -> positive seconds")
    return {
        str(DType.parse(type)): {shape: float(seconds) for shape, seconds in row.items()}
        for type, row in table.items()
    }


def _is_times(row: Any) -> bool:
    return isinstance(row, dict) and all(is_number(s) and s > 0 for s in row.values())


def _costs(times: dict[Key, float], chunk: int, source: str) -> ProductCosts:
    decode: dict[str, dict[str, float]] = {}
    prefill: dict[str, dict[str, float]] = {}
    for (type, m, (n, k)), seconds in times.items():
        if m == 1:
            decode.setdefault(type, {})[f"{n}x{k}"] = seconds
        if m == chunk:
            prefill.setdefault(type, {})[f"{n}x{k}"] = seconds
    return ProductCosts(decode, prefill, source)


def _timed(key: Key, level: Level, activation: str) -> Timed:
    """One product with the kernel that a compilation would choose."""
    type, m, (n, k) = key
    dtype = DType.parse(type)
    kernel = choose(
        dtype, activation, m, machine_of(level.name), tiles=no_tiles(dtype, activation, k)
    )
    call, sets, _ = prepared(dtype, m, n, k, kernel.activation, kernel.scheme, level)
    return timed_calls(call, sets, SECONDS, ROUNDS)


def _text(key: Key) -> str:
    type, m, (n, k) = key
    return f"{type} {m}x{n}x{k}"


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LadderError(f"{path}: cannot be read as JSON: {error}") from error
