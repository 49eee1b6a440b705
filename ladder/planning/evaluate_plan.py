"""The loss of a whole plan, measured against the float model block by block.

A prediction adds up the losses of single sites, but sites are not quite independent. The model
need not fit into memory: only the values between blocks and one block's weights are held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from ladder.blockwise.flow import Flow
from ladder.blockwise.programs import Arrays, Program
from ladder.blockwise.spill import SpillStore
from ladder.blockwise.weights import Group, Rounder, find_groups
from ladder.ir.dtype import DType
from ladder.passes.allocation.parts import FLOAT
from ladder.passes.allocation.problem import Picks, Problem
from ladder.passes.rounding.threads import one_blas_thread
from ladder.sensitivity.divergence import LOGITS, Expected, Sums, kind_of
from ladder.support.progress import track
from ladder.support.threads import own_threads

R = TypeVar("R")
RounderOf = Callable[[Mapping[str, DType]], Rounder]  # takes a plan (site -> type)


class PlanEvaluator:
    """Runs plans of one model on its calibration windows, and compares them with the float model.

    ``windows`` are feeds by input name; ``logits`` says that the output's last axis is logits.
    The loss of a plan is in the problem's metric. ``expected`` is the output of the float model;
    ``groups`` has the weights by the names of their sites.
    """

    def __init__(
        self,
        model: ir.Model,
        problem: Problem,
        windows: Sequence[Arrays],
        rounder_of: RounderOf,
        logits: bool,
    ) -> None:
        self._flow, self.problem, self._rounder_of = Flow(model), problem, rounder_of
        self._rounded: Rounder | None = None
        self._groups = _groups_of_blocks(model, self._flow)
        whole = find_groups(model, self._flow.chain)
        self.groups = {site.name: group for group in whole for site in group.sites}
        self._windows = [self._flow.side_values(window) for window in windows]
        self._pool, self._kind = ThreadPoolExecutor(own_threads()), LOGITS
        kept, lock = SpillStore(), Lock()

        def expect(output: np.ndarray, _: int) -> Expected:
            self._kind = LOGITS if logits else kind_of(output)
            found = Expected.of(output, self._kind)
            with lock:
                rows = kept.put(found.output)
                soft = rows if found.softmax is found.output else found.softmax
                if soft is not None and soft is not rows:
                    soft = kept.put(soft)
            return replace(found, output=rows, softmax=soft)

        self.expected = self._run({}, expect, "run the float model")

    def loss(self, picks: Picks) -> float:
        """The loss of the output when the whole plan is applied."""
        chosen = zip(self.problem.parts, picks, strict=True)
        types = {name: part.options[pick].type for part, pick in chosen for name in part.names}
        low_bit = {name: DType.parse(type) for name, type in types.items() if type != FLOAT}
        self._rounded = self._rounder_of(low_bit)
        sums = self._run(low_bit, lambda y, i: self.expected[i].compare(y), "run the plan")
        return Sums.total(sums).scores(self._kind)[self.problem.metric]

    def _run(
        self, types: Mapping[str, DType], finish: Callable[[np.ndarray, int], R], what: str
    ) -> list[R]:
        """The result of ``finish`` on each window's output, with the named sites in their types."""
        flow, tied = self._flow, dict[tuple[str, bool], np.ndarray]()
        if flow.last < 0:  # the output does not depend on a weight
            return [finish(w[flow.output].copy(), i) for i, w in enumerate(self._windows)]
        states: list[dict[str, np.ndarray]] = [{} for _ in self._windows]
        pairs = list(zip(self._windows, states, strict=True))
        for number in track(range(flow.last), what):
            program = self._program(number, types, tied, states[0])
            list(self._pool.map(partial(self._step, number, program), pairs))
            del program  # free its weights before the next block's are loaded
        program = self._program(flow.last, types, tied, states[0])

        def last(i: int) -> R:
            window, state = pairs[i]
            return finish(program.run({**window, **state})[flow.output], i)

        return list(self._pool.map(last, range(len(pairs))))

    def _step(
        self, number: int, program: Program, pair: tuple[Arrays, dict[str, np.ndarray]]
    ) -> None:
        """Run a block on one window; keep only the values that a later block reads."""
        window, state = pair
        state.update(program.run({**window, **state}))
        for name in set(state) - self._flow.needed_after[number]:
            del state[name]

    def _program(
        self,
        number: int,
        types: Mapping[str, DType],
        tied: dict[tuple[str, bool], np.ndarray],
        state: Arrays,
    ) -> Program:
        """A block with its rounded weights; weights of several blocks are in ``tied``."""
        groups = [group for group in self._groups[number] if group.name in types]

        def weight(group: Group) -> np.ndarray:
            key = group.weight_name, group.sites[0].transposed
            if key in tied:
                return tied[key]
            assert self._rounded is not None
            done = self._rounded(group, types[group.name])
            if len(group.blocks) > 1:
                tied[key] = done
            return done

        names = [group.weight_name for group in groups]
        with one_blas_thread():
            weights = dict(zip(names, self._pool.map(weight, groups), strict=True))
        return self._flow.program(number, {**self._windows[0], **state}, weights)


def _groups_of_blocks(model: ir.Model, flow: Flow) -> list[list[Group]]:
    """For each block, its weights and the sites in it that read them."""
    rows: list[list[Group]] = [[] for _ in flow.chain.blocks]
    for group in find_groups(model, flow.chain):
        for number in group.blocks:
            here = (s for s in group.sites if flow.chain.block_of(s.node) == number)
            rows[number].append(replace(group, sites=tuple(here)))
    return rows
