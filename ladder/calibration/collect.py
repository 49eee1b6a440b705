"""Run a float model on calibration windows, block by block, and summarize products' inputs.

Memory holds the weights of one block, the summaries of its operands, and the activations at its
border. A summary is written to a file as soon as its block has run, so that a run that was killed
resumes there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from ladder.blockwise.flow import Flow
from ladder.blockwise.programs import Program
from ladder.calibration.data import Data
from ladder.calibration.operands import Operand, operand_of
from ladder.errors import LadderError
from ladder.ir.numerics import F32
from ladder.ir.site import Site
from ladder.support import entries
from ladder.support.progress import track

INDEX = "index.json"
WINDOWS_AT_A_TIME = 8  # inputs of a block for this many windows are in memory together
Values = dict[str, np.ndarray]


class Summary(Protocol):
    """A summary of an operand: rows [M, K] are added, and an array results."""

    def add(self, x: F32) -> None: ...

    def result(self) -> F32: ...


def summarised(
    model: ir.Model,
    sites: Sequence[Site],
    data: Data,
    make: Callable[[], Summary],
    threads: int,
    place: Path,
) -> tuple[dict[str, str], dict[str, str]]:
    """Site -> the file in ``place`` with its operand's summary, and site -> why it has none."""
    if not entries.whole(place, INDEX):
        _summarise(model, sites, data, make, threads, place)
    index = json.loads((place / INDEX).read_text())
    return {name: str(place / file) for name, file in index["files"].items()}, index["missing"]


def _summarise(
    model: ir.Model,
    sites: Sequence[Site],
    data: Data,
    make: Callable[[], Summary],
    threads: int,
    place: Path,
) -> None:
    flow = Flow(model)
    operands = {site.name: operand_of(site, model) for site in sites}
    found = dict.fromkeys(o for o in operands.values() if isinstance(o, Operand))
    paths = {operand: place / f"{number}.npy" for number, operand in enumerate(found)}
    by_block: dict[int, list[Operand]] = {}
    for site in sites:
        operand = operands[site.name]
        if isinstance(operand, Operand) and not entries.has(place, paths[operand].name):
            row = by_block.setdefault(flow.chain.block_of(site.node), [])
            row += [operand] if operand not in row else []
    values = [flow.side_values(window) for window in data.feeds]
    blocks = range(max(by_block, default=-1) + 1)
    with ThreadPoolExecutor(threads) as pool:
        for number in track(blocks, "read the calibration text"):
            sums = {operand: make() for operand in by_block.get(number, [])}
            advance(flow, number, values, sums, pool)
            for operand, summary in sums.items():
                _save(paths[operand], _checked(summary.result(), operand, number))
    names = {site: o for site, o in operands.items() if isinstance(o, Operand)}
    index = {
        "files": {site: paths[operand].name for site, operand in names.items()},
        "missing": {site: o for site, o in operands.items() if isinstance(o, str)},
    }
    with entries.put(place, INDEX) as aside:
        aside.write_text(json.dumps(index))


def advance(
    flow: Flow,
    number: int,
    values: list[Values],
    sums: dict[Operand, Summary],
    pool: ThreadPoolExecutor,
) -> None:
    """Run a block on all windows. ``values`` become those that later blocks read."""
    read = [operand.value for operand in sums]
    for some, seen in run_block(flow, number, values, [*flow.wanted[number], *read], {}, pool):
        for operand, summary in sums.items():
            summary.add(np.concatenate([operand.rows(window[operand.value]) for window in seen]))
        values[some] = [flow.kept(number, window) for window in seen]


def run_block(
    flow: Flow,
    number: int,
    values: Sequence[Values],
    names: Sequence[str],
    replaced: Values,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[slice, list[Values]]]:
    """Run a block on a few windows at a time; yield which, and their old and new values.

    ``names`` are the new values that are wanted. ``replaced`` has weights to replace, by name.
    """
    block = flow.chain.blocks[number]
    made = {v.name for node in block.nodes for v in node.outputs}
    wanted = [name for name in dict.fromkeys(names) if name in made]
    program = Program(flow.model, block, wanted, values[0], replaced) if wanted else None
    for first in range(0, len(values), WINDOWS_AT_A_TIME):
        some = slice(first, first + WINDOWS_AT_A_TIME)
        if program is None:
            yield some, [dict(window) for window in values[some]]
        else:
            ran = pool.map(program.run, values[some])
            yield some, [{**v, **new} for v, new in zip(values[some], ran, strict=True)]


def _checked(array: F32, operand: Operand, number: int) -> F32:
    if not np.isfinite(array).all():
        raise LadderError(
            f"block {number}: value '{operand.value}' contains NaN or infinity on the calibration "
            "data; check the data and the model's weights"
        )
    return array


def _save(path: Path, array: F32) -> None:
    with entries.put(path.parent, path.name) as aside, aside.open("wb") as file:
        np.save(file, array)
