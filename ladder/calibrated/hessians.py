"""Hessians: for each product the mean of x x' over calibration windows, under the float model.

The model runs once, block by block; of the blocks before only what later ones read is kept. In
memory are one block's weights, its Hessians and the activations at its edge. A value's Hessian
is a file as soon as its block has run, so that a run that was killed goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ladder import cache
from ladder.calibrated.inputs import Operand, operand_of
from ladder.errors import LadderError
from ladder.files import file_aside
from ladder.frontend.source import Source
from ladder.ir.facts import Hessians
from ladder.ir.numerics import F32
from ladder.ir.site import Site, find_sites
from ladder.progress import track
from ladder.sensitivity.data import Data
from ladder.sensitivity.flow import Flow
from ladder.sensitivity.programs import Program
from ladder.sensitivity.workers import own_threads

INDEX = "index.json"
WINDOWS_AT_A_TIME = 8  # whose inputs of one block are in memory together
Values = dict[str, np.ndarray]


def collect(source: Source, data: Data, threads: int = 0, folder: Path | None = None) -> Hessians:
    """The fact ``Hessians`` of the sites of a source's model; from the cache if it is there.

    ``folder`` is where the files go (a place in the cache).
    """
    model = source.model
    sites = find_sites(model)[0]
    operands = {site.name: operand_of(site, model) for site in sites}
    place = folder or cache.entry("hessians", source.digest, data.digest, len(sites))
    if not (place / INDEX).exists():
        place.mkdir(parents=True, exist_ok=True)
        _collect(model, sites, operands, data, threads or own_threads(), place)
    index = json.loads((place / INDEX).read_text())
    files = {name: str(place / file) for name, file in index["files"].items()}
    return Hessians(files, index["missing"], len(data.feeds) * data.tokens, data.name)


def _collect(
    model: ir.Model,
    sites: Sequence[Site],
    operands: dict[str, Operand | str],
    data: Data,
    threads: int,
    place: Path,
) -> None:
    flow = Flow(model)
    found = dict.fromkeys(o for o in operands.values() if isinstance(o, Operand))
    paths = {operand: place / f"{number}.npy" for number, operand in enumerate(found)}
    by_block: dict[int, list[Operand]] = {}
    for site in sites:
        operand = operands[site.name]
        if isinstance(operand, Operand) and not paths[operand].exists():
            row = by_block.setdefault(flow.chain.block_of(site.node), [])
            row += [operand] if operand not in row else []
    values = [flow.side_values(window) for window in data.feeds]
    blocks = range(max(by_block, default=-1) + 1)
    with ThreadPoolExecutor(threads) as pool:
        for number in track(blocks, "read the calibration text"):
            moments = advance(flow, number, values, by_block.get(number, []), pool)
            for operand, h in moments.items():
                _save(paths[operand], _checked(h, operand, number))
    names = {site: o for site, o in operands.items() if isinstance(o, Operand)}
    index = {
        "files": {site: paths[operand].name for site, operand in names.items()},
        "missing": {site: o for site, o in operands.items() if isinstance(o, str)},
    }
    with file_aside(place / INDEX) as aside:
        aside.write_text(json.dumps(index))


def advance(
    flow: Flow,
    number: int,
    values: list[Values],
    operands: Sequence[Operand],
    pool: ThreadPoolExecutor,
) -> dict[Operand, F32]:
    """Run a block on all windows: ``values`` become what later blocks read; the moments [K, K]."""
    sums: dict[Operand, F32] = {}
    rows = dict.fromkeys(operands, 0)
    read = [operand.value for operand in operands]
    for some, seen in run_block(flow, number, values, [*flow.wanted[number], *read], {}, pool):
        for operand in operands:
            x = np.concatenate([operand.rows(window[operand.value]) for window in seen])
            product = x.T @ x
            sums[operand] = sums[operand] + product if operand in sums else product
            rows[operand] += len(x)
        values[some] = [flow.kept(number, window) for window in seen]
    return {operand: sums[operand] / np.float32(rows[operand]) for operand in operands}


def run_block(
    flow: Flow,
    number: int,
    values: Sequence[Values],
    names: Sequence[str],
    replaced: Values,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[slice, list[Values]]]:
    """Some windows at a time: which, and their values with those named ones that the block makes.

    ``replaced`` are weights, by name, that the block has instead of its own.
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


def _checked(h: F32, operand: Operand, number: int) -> F32:
    if not np.isfinite(h).all():
        raise LadderError(
            f"block {number}: value '{operand.value}' has NaN or infinity on the calibration data; "
            "check the data, and the model's weights"
        )
    return h


def _save(path: Path, h: F32) -> None:
    with file_aside(path) as aside, aside.open("wb") as file:
        np.save(file, h)
