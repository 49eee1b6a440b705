"""Measure the fact ``Sensitivity`` of a source on a text or on samples; resume earlier runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import psutil

from ladder.blockwise.spill import SHARE
from ladder.blockwise.weights import Group, Rounder, Task, find_groups, tasks_of
from ladder.calibration.data import Data, sample_data, text_data
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.blocks import find_blocks
from ladder.ir.element import user_books
from ladder.ir.facts import Hessians, Sensitivity
from ladder.passes.rounding.methods import find_method
from ladder.sensitivity.state import Key, Scores, State
from ladder.sensitivity.workers import DASK, Alone, Crew, Job, dask, processes, run_all
from ladder.support import cache
from ladder.support.threads import own_threads
from ladder.support.workplace import workplace

SCORES = "scores.jsonl"


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure; none of the options changes a score.

    ``workers`` is a number of processes (0: this one) or ``dask://host:port``. ``threads`` is the
    number for all local workers (0: every processor). ``limit`` is the memory for kept values, in
    bytes (default: half of the free memory). ``state`` is the file that keeps the scores.
    """

    workers: str = "0"
    threads: int = 0
    limit: int | None = None
    state: Path | None = None


def measure(
    source: Source,
    types: Sequence[str],
    text: Path | None = None,
    windows: int = 8,
    tokens: int = 128,
    method: str = "mse",
    how: MeasureOptions | None = None,
) -> Sensitivity:
    """Score every site of a language model in every type on a calibration text.

    Sites that share a weight are measured together. Each has their common score, which counts once.
    """
    data = text_data(source, text, windows, tokens)
    return measure_data(source, types, data, method, how or MeasureOptions())


def measure_feeds(
    source: Source,
    types: Sequence[str],
    samples: dict[str, np.ndarray],
    method: str = "mse",
    name: str = "samples",
    how: MeasureOptions | None = None,
) -> Sensitivity:
    """Score every site of any model on samples: name of an input -> [samples, *shape of the input].

    The measure is KL if the output's last axis holds probabilities, else MSE; ``metric`` of the
    result says which.
    """
    data = sample_data(source, samples, name)
    return measure_data(source, types, data, method, how or MeasureOptions())


def measure_data(
    source: Source,
    types: Sequence[str],
    data: Data,
    method: str,
    how: MeasureOptions,
    hessians: Hessians | None = None,
) -> Sensitivity:
    """Score every site on the given data; calibrated methods need the Hessians of the sites."""
    calibrated = find_method(method).needs.hessians
    if calibrated and hessians is None:
        raise LadderError(
            f"rounding '{method}' needs Hessians: give those of ladder.calibration.hessians.collect"
        )
    chain = find_blocks(source.model)
    groups = find_groups(source.model, chain)
    if not groups:
        raise LadderError(f"{source.origin}: no weights to measure")
    blocks = {group.name: group.blocks[0] for group in groups}
    tasks = tasks_of(groups, types)
    said = f"{method} by {hessians.tokens} tokens" if calibrated and hessians else method
    key = Key(source.digest, data.digest, len(data.feeds), data.tokens, said)
    state = State(how.state or _own_state(key), key, own=how.state is None)
    missing = [task for task in tasks if task not in state.scores]
    if missing:
        job = Job(
            uuid.uuid4().hex, data.feeds, method, data.labels, user_books(), hessians=hessians
        )
        kept = RoundedWeights(source, method, hessians) if calibrated else None
        with _crew(source.model, job, how, kept) as crew:
            known = len(tasks) - len(missing)
            run_all(missing, lambda task: blocks[task.group], crew, state.add, known)
    return _fact(groups, tasks, state.scores, data)


def _own_state(key: Key) -> Path:
    """The file in the cache for the scores of a measurement."""
    place = cache.entry("sensitivity", *vars(key).values())
    cache.prepare(place)
    return place / SCORES


def _fact(
    groups: list[Group], tasks: list[Task], scores: dict[Task, Scores], data: Data
) -> Sensitivity:
    rows: dict[str, dict[str, Scores]] = {}
    sites = {group.name: group.sites for group in groups}
    for task in tasks:
        for site in sites[task.group]:
            rows.setdefault(site.name, {})[task.type] = scores[task]
    metric = "kl" if "kl" in scores[tasks[0]] else "mse"
    return Sensitivity(metric, rows, len(data.feeds) * data.tokens, data.name)


@contextmanager
def _crew(model: ir.Model, job: Job, how: MeasureOptions, kept: Rounder | None) -> Iterator[Crew]:
    """``kept`` keeps calibrated weights, which are slow to round, for those who compile a plan."""
    threads = how.threads or own_threads()
    if how.workers == "0":
        yield Alone(_with(job, threads, how.limit).engine(model, kept))
        return
    with _saved(model) as path:
        if how.workers.startswith(DASK):
            with dask(how.workers, partial(_with, job, model=path, limit=how.limit)) as crew:
                yield crew
            return
        count = _count(how.workers)
        limit = how.limit or int(psutil.virtual_memory().available * SHARE) // count
        own = _with(job, max(1, threads // count), limit, path)
        with processes(count, own) as crew:
            yield crew


def _with(job: Job, threads: int, limit: int | None, model: Path = Path()) -> Job:
    return replace(job, threads=threads, limit=limit, model=model)


def _count(workers: str) -> int:
    if workers.isdecimal():
        return int(workers)
    raise LadderError(f"workers '{workers}': give a number of processes, or dask://HOST:PORT")


@contextmanager
def _saved(model: ir.Model) -> Iterator[Path]:
    """The model as a file in the cache, which the workers of a cluster can share."""
    root = cache.cache_folder() / "sensitivity"
    cache.prepare(root)
    with workplace(root) as folder:
        path = folder / "model.onnx"
        ir.save(model, path, external_data="model.data")
        yield path
