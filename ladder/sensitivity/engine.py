"""The engine: runs candidates from their own block on, with activations from the float run.

The float model runs once, block by block, and the inputs of every block are kept. The rounded
weight of a candidate replaces the float one in its block, and only this block and the later ones
run. Candidates of one block run together, so that a block's weights are read (and, if memory is
scarce, its session is built) once for all of them. Each thread runs one candidate on one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from ladder.blockwise.flow import Flow
from ladder.blockwise.programs import Arrays, Program
from ladder.blockwise.spill import SpillStore
from ladder.blockwise.weights import Group, Rounder, Task, find_groups
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.passes.rounding.threads import one_blas_thread
from ladder.sensitivity.divergence import (
    LOGITS,
    Expected,
    Sums,
    kind_of,
    metric_of,
)
from ladder.support.progress import track

SESSIONS_SHARE = 0.5  # of the memory limit, for the sessions of the float model
ROUNDED_SHARE = 0.25  # of the memory limit, for the weights of candidates that run together
COPIES = 3  # of a rounded weight: the original, transposed by ONNX Runtime, packed
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Run:
    """A candidate that runs: its weight, and for each window the values that differ from float."""

    task: Task
    group: Group
    weight: np.ndarray
    windows: list[dict[str, np.ndarray]]
    sums: list[Sums] = field(default_factory=list)


class Engine:
    """Scores candidates of one model on one set of windows.

    ``windows`` are feeds by input name. ``logits`` says that the output's last axis is logits;
    otherwise the values decide. ``labels``, if given, has for each window the tokens that follow
    each token except the last. The output is the graph's first. ``rounded`` computes a candidate's
    weight. Outputs are compared with those of the model, or with ``expected``.
    """

    def __init__(
        self,
        model: ir.Model,
        windows: Sequence[Arrays],
        rounded: Rounder,
        logits: bool,
        labels: Sequence[np.ndarray] | None = None,
        threads: int = 1,
        limit: int | None = None,
        expected: Sequence[Expected] | None = None,
    ) -> None:
        self._rounded, self.flow = rounded, Flow(model)
        self.groups = {group.name: group for group in find_groups(model, self.flow.chain)}
        self.kept = SpillStore(limit)
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads
        self._programs: dict[int, Program] = {}
        self._values = [self.flow.side_values(window) for window in windows]
        own = self._run_model(logits, labels)
        self.expected = own if expected is None else list(expected)
        self._buffers: SimpleQueue[np.ndarray] = SimpleQueue()
        for _ in range(threads):
            self._buffers.put(np.empty(0, np.float32))

    @property
    def metric(self) -> str:
        return metric_of(self.expected[0].kind)

    def score(self, tasks: Sequence[Task]) -> list[dict[str, float]]:
        """The scores of candidates, in order. Those of one block are cheapest together."""
        room = int(self.kept.limit * ROUNDED_SHARE)
        found: list[dict[str, float]] = []
        batch: list[Task] = []
        for task in tasks:
            size = COPIES * 4 * self.groups[task.group].sites[0].parameters
            if batch and (len(batch) + 1) * size > room:
                found += self._score_together(batch)
                batch = []
            batch.append(task)
        return found + (self._score_together(batch) if batch else [])

    def _score_together(self, tasks: Sequence[Task]) -> list[dict[str, float]]:
        with one_blas_thread():
            runs = self._each(self._start, tasks)
        for number in range(min(run.group.blocks[0] for run in runs), self.flow.last + 1):
            active = [run for run in runs if run.group.blocks[0] <= number]
            self._advance(number, active)
        for run in runs:
            if not run.sums:  # the output does not depend on the site
                run.sums = [e.compare(e.output.copy()) for e in self.expected]
        return [Sums.total(run.sums).scores(self.expected[0].kind) for run in runs]

    def _start(self, task: Task) -> _Run:
        group = self.groups[task.group]
        weight = self._rounded(group, DType.parse(task.type))
        return _Run(task, group, weight, [{} for _ in self._values])

    def _advance(self, number: int, runs: list[_Run]) -> None:
        """Run one block for all candidates that have reached it."""
        changed = [run for run in runs if number in run.group.blocks]
        swapped = [{run.group.weight_name: run.weight} for run in changed]
        own = self._each(lambda weights: self._build(number, weights), swapped)
        programs = {id(run): program for run, program in zip(changed, own, strict=True)}
        if len(changed) < len(runs):
            shared = self._program(number)
            programs.update({id(run): shared for run in runs if id(run) not in programs})
        jobs = [(programs[id(run)], run, w) for run in runs for w in range(len(self._values))]
        work = self._finish if number == self.flow.last else self._run_window
        sums = self._each(lambda job: work(number, *job), jobs)
        if number == self.flow.last:
            for (_, run, _), part in zip(jobs, sums, strict=True):
                assert part is not None
                run.sums.append(part)

    def _run_window(self, number: int, program: Program, run: _Run, w: int) -> None:
        values = run.windows[w]
        made = program.run({**self._values[w], **values})
        later = self.flow.needed_after[number]
        run.windows[w] = {k: v for k, v in {**values, **made}.items() if k in later}

    def _finish(self, number: int, program: Program, run: _Run, w: int) -> Sums:
        """Run the last block and compare; logits are large, so their buffers are reused."""
        expected, feeds = self.expected[w], {**self._values[w], **run.windows[w]}
        buffer = self._buffers.get()
        try:
            if buffer.shape != self._shapes[w]:
                buffer = np.empty(self._shapes[w], np.float32)
            program.run_into(feeds, buffer)
            return expected.compare(buffer)
        except LadderError as error:
            raise LadderError(f"site {run.task.group} in {run.task.type}: {error}") from None
        finally:
            self._buffers.put(buffer)

    def _run_model(self, logits: bool, labels: Sequence[np.ndarray] | None) -> list[Expected]:
        """Run the float model once and keep the inputs of every block."""
        for number in track(range(self.flow.last + 1), "run the model"):
            program = self._program(number)
            made = self._each(program.run, self._values)
            for values, new in zip(self._values, made, strict=True):
                values.update({name: self.kept.put(array) for name, array in new.items()})
        outputs = [values[self.flow.output] for values in self._values]
        if outputs[0].dtype != np.float32:
            raise LadderError(
                f"output '{self.flow.output}' is {outputs[0].dtype}: only float32 can be scored"
            )
        self._shapes = [output.shape for output in outputs]
        kind = LOGITS if logits else kind_of(outputs[0])
        found = []
        for i, output in enumerate(outputs):  # one at a time: together they may exceed memory
            expected = Expected.of(output, kind, labels[i] if labels else None)
            if kind == LOGITS and expected.softmax is not None:
                expected = replace(expected, softmax=self.kept.put(expected.softmax))
            found.append(expected)
        return found

    def _program(self, number: int) -> Program:
        """The program of a float block; kept while it fits into the memory limit."""
        if number in self._programs:
            return self._programs[number]
        program = self._build(number, {})
        size = 2 * program.weight_bytes  # the weights, and ONNX Runtime's packed copy
        if self.kept.fits(size, SESSIONS_SHARE):
            self.kept.used += size
            self._programs[number] = program
        return program

    def _build(self, number: int, replaced: Arrays) -> Program:
        return self.flow.program(number, self._values[0], replaced)

    def _each(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        return list(self._pool.map(work, items))
