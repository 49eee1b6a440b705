"""Workers: this process, processes of this machine, or a Dask cluster. All give equal scores.

A unit of work is some candidates of one block that take about ``UNIT_SECONDS``. The scores of a
unit are saved when it ends, so at most one unit is lost. Workers read the model from a path.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.blockwise.weights import Rounder, Task, rounder
from ladder.errors import LadderError
from ladder.ir.element import code_book, register
from ladder.ir.facts import Hessians
from ladder.sensitivity.engine import Engine
from ladder.sensitivity.state import Scores
from ladder.support.progress import report

UNIT_SECONDS = 15.0
FIRST_UNIT, LARGEST_UNIT = 1, 64
DASK = "dask://"
CONNECT_SECONDS = 10
WHAT = "measure the sensitivity"


@dataclass(frozen=True)
class Job:
    """All that a worker needs; ``Engine`` describes most of it."""

    key: str  # identifies the job: a worker keeps the engine of the last one
    windows: list[dict[str, np.ndarray]]
    method: str
    labels: list[np.ndarray] | None = None  # given if the output is logits
    books: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # the user's own types
    threads: int = 1
    limit: int | None = None
    model: Path = Path()
    hessians: Hessians | None = None  # names files in the cache, which a cluster can share

    def engine(self, model: ir.Model | None = None, rounding: Rounder | None = None) -> Engine:
        """``rounding`` does the same as the method, for one that keeps what it rounded."""
        for name, book in self.books.items():
            register(code_book(name, book))
        return Engine(
            model or self._load(),
            self.windows,
            rounding or rounder(self.method, self.hessians),
            self.labels is not None,
            self.labels,
            self.threads,
            self.limit,
        )

    def _load(self) -> ir.Model:
        if not self.model.is_file():
            raise LadderError(
                f"a worker cannot read {self.model}: workers on other machines need a shared "
                "cache; set LADDER_CACHE to a folder that all can read"
            )
        return ir.load(self.model)


Unit = Sequence[Task]
Result = tuple[list[Scores], float]  # the scores of a unit's tasks in order; seconds for them
_LOCK = Lock()
_ENGINES: dict[str, Engine] = {}


def score_unit(job: Job, unit: Unit) -> Result:
    """Score a unit in a worker, which runs one unit at a time with all of its threads."""
    with _LOCK:
        if job.key not in _ENGINES:
            _ENGINES.clear()
            _ENGINES[job.key] = job.engine()
        return _timed(_ENGINES[job.key], unit)


def _timed(engine: Engine, unit: Unit) -> Result:
    start = time.perf_counter()
    scores = engine.score(unit)
    return scores, time.perf_counter() - start


class Crew(ABC):
    """Runs units, at most ``size`` at a time."""

    size = 1

    @abstractmethod
    def submit(self, unit: Unit) -> Any:
        """A future of the unit's ``Result``."""

    def wait(self, futures: Sequence[Any]) -> list[Any]:
        """Wait until at least one is done; return all that are."""
        return list(wait(futures, return_when=FIRST_COMPLETED).done)


class Alone(Crew):
    """This process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(self, unit: Unit) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(_timed(self._engine, unit))
        return future


class Processes(Crew):
    """Processes of this machine, which share its threads and its memory."""

    def __init__(self, pool: ProcessPoolExecutor, job: Job, size: int) -> None:
        self._pool, self._job, self.size = pool, job, size

    def submit(self, unit: Unit) -> Future[Result]:
        return self._pool.submit(score_unit, self._job, unit)


class DaskWorkers(Crew):
    """The workers of a Dask cluster; each runs one unit at a time."""

    def __init__(self, client: Any, job: Job) -> None:
        self._client, self._idle = client, list(client.nthreads())
        self.size, self._places = len(self._idle), dict[Any, str]()
        self._job = client.scatter(job, broadcast=True, hash=False)

    def submit(self, unit: Unit) -> Any:
        place = self._idle.pop()
        options = {"workers": [place], "allow_other_workers": True, "pure": False}
        future = self._client.submit(score_unit, self._job, unit, **options)
        self._places[future.key] = place
        return future

    def wait(self, futures: Sequence[Any]) -> list[Any]:
        done = list(_distributed().wait(futures, return_when=FIRST_COMPLETED).done)
        self._idle += [self._places.pop(future.key) for future in done]
        return done


@contextmanager
def processes(count: int, job: Job) -> Iterator[Crew]:
    """``count`` new processes."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        try:
            yield Processes(pool, job, count)
        except BrokenProcessPool as error:
            raise LadderError(
                "a worker process died, perhaps for lack of memory; the scores so far are saved: "
                "run again with fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise LadderError(
            "workers on Dask need the package dask: pip install 'ladder[dask]'"
        ) from error


@contextmanager
def dask(address: str, make_job: Callable[[int], Job]) -> Iterator[Crew]:
    """The workers of ``dask://host:port``; ``make_job`` takes the number of threads of each."""
    try:
        client = _distributed().Client(
            "tcp://" + address.removeprefix(DASK), timeout=CONNECT_SECONDS
        )
    except (OSError, ValueError) as error:
        raise LadderError(
            f"{address}: no Dask scheduler answers there ({type(error).__name__}); "
            "give dask://HOST:PORT of a running scheduler"
        ) from error
    with client:
        threads = client.nthreads()
        if not threads:
            raise LadderError(f"{address}: the Dask scheduler has no workers; start some")
        yield DaskWorkers(client, make_job(min(threads.values())))


def run_all(
    tasks: Sequence[Task],
    block_of: Callable[[Task], int],
    crew: Crew,
    save: Callable[[list[tuple[Task, Scores]]], None],
    known: int = 0,
) -> None:
    """Measure ``tasks`` block by block; ``known`` tasks were measured before."""
    queue, size, done = deque(sorted(tasks, key=block_of)), FIRST_UNIT, known
    running: dict[Any, Unit] = {}
    report(WHAT, done, done + len(queue))
    while queue or running:
        while queue and len(running) < crew.size:
            unit = _take(queue, size, block_of)
            running[crew.submit(unit)] = unit
        for future in crew.wait(list(running)):
            unit = running.pop(future)
            scores, seconds = future.result()
            save(list(zip(unit, scores, strict=True)))
            done += len(unit)
            each = max(seconds / len(unit), 1e-6)
            size = int(min(max(UNIT_SECONDS / each, 1), LARGEST_UNIT))
            report(WHAT, done, known + len(tasks))


def _take(queue: deque[Task], size: int, block_of: Callable[[Task], int]) -> Unit:
    unit = [queue.popleft()]
    while queue and len(unit) < size and block_of(queue[0]) == block_of(unit[0]):
        unit.append(queue.popleft())
    return unit
