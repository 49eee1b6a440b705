"""Round weights in the order of the model, each for the outputs of the rounded layers before it.

Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration", ICML'25: a
site of the final model does not read the inputs X of the float model but X~, the outputs of layers
that are rounded already. So its weight is first replaced by the one whose products with X~ are
closest to W X,

    W + (W (X - X~) + D) X~' (X~ X~' + ridge)^-1,

and then rounded by GPTQ with the Hessian X~ X~'. D, which the paper does not have, is the error of
the residual stream that the product is added to: each block compensates for some of the errors of
all blocks before it. Two streams of activations, float and rounded, run through the model block by
block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ladder.blockwise.flow import Flow
from ladder.blockwise.weights import Group, find_groups
from ladder.calibration.collect import Values, run_block
from ladder.calibration.data import Data
from ladder.calibration.operands import Operand, operand_of
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.element import user_books
from ladder.ir.facts import Hessians, PreRounded
from ladder.ir.numerics import F32
from ladder.ir.site import Site
from ladder.passes.rounding.hessian import hessian_of
from ladder.passes.rounding.one_weight import Outcome, round_by
from ladder.passes.rounding.pre_rounded import load_outcome, save_outcome
from ladder.passes.rounding.threads import one_blas_thread
from ladder.support import cache, entries
from ladder.support.progress import track
from ladder.support.threads import own_threads

RIDGE = 0.01  # relative to the mean diagonal of X~ X~'
INDEX = "index.json"
NAME = "gptaq"  # of the rounding method


def round_in_order(
    source: Source, data: Data, types: Mapping[str, DType], static: Hessians, threads: int = 0
) -> PreRounded:
    """The fact ``PreRounded`` for the sites in ``types``, from the cache if it is there.

    Weights that several blocks read (such as a tied embedding) are rounded first, with ``static``,
    the Hessians of the float model. Weights without a Hessian are left to the pass. Every weight
    is written to a file as soon as it is rounded, so that a run that was killed resumes there.
    """
    about = (data.digest, user_books(), sorted(types.items()))
    place = cache.entry("ordered", source.digest, *about)
    if not entries.whole(place, INDEX):
        with ThreadPoolExecutor(threads or own_threads()) as pool:
            files = _Order(source.model, data, types, static, place, pool).run()
        with entries.put(place, INDEX) as aside:
            aside.write_text(json.dumps(files))
    names = json.loads((place / INDEX).read_text())
    return PreRounded({site: str(place / file) for site, file in names.items()})


class _Order:
    """The two streams, the weights rounded so far, and the folder of their files."""

    def __init__(
        self,
        model: ir.Model,
        data: Data,
        types: Mapping[str, DType],
        static: Hessians,
        place: Path,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._model, self._types, self._static = model, types, static
        self._flow, self._place, self._pool = Flow(model), place, pool
        self._float = [self._flow.side_values(window) for window in data.feeds]
        self._rounded: list[Values] = [dict(window) for window in self._float]
        self._weights: dict[str, np.ndarray] = {}  # rounded weights by initializer
        self._files: dict[str, str] = {}
        groups = find_groups(model, self._flow.chain)
        self._groups = [g for g in groups if g.name in types]

    def run(self) -> dict[str, str]:
        """Round every weight; return site -> file name."""
        for group in self._groups:
            if len(group.blocks) > 1 or not isinstance(self._operand(group), Operand):
                self._round_alone(group)
        for number in track(range(len(self._flow.chain.blocks)), "round block by block"):
            for operand, groups in self._stages(number).items():
                self._round_stage(number, operand, groups)
            self._advance(number)
        return self._files

    def _operand(self, group: Group) -> Operand | str:
        return operand_of(group.sites[0], self._model)

    def _stages(self, number: int) -> dict[Operand, list[Group]]:
        """The weights of a block by the operand they read, in the order of the graph."""
        found: dict[Operand, list[Group]] = {}
        order = {id(node): i for i, node in enumerate(self._flow.chain.blocks[number].nodes)}
        here = [g for g in self._groups if g.blocks == (number,) and g.name not in self._files]
        for group in sorted(here, key=lambda g: order.get(id(g.sites[0].node), 0)):
            operand = self._operand(group)
            assert isinstance(operand, Operand)
            found.setdefault(operand, []).append(group)
        return found

    def _round_alone(self, group: Group) -> None:
        hessian = hessian_of(group.sites, self._static)
        if hessian is not None:
            self._put(group, lambda: self._by_gptq(group, group.sites[0].array(), hessian))

    def _round_stage(self, number: int, operand: Operand, groups: Sequence[Group]) -> None:
        """Round the weights that read the same value, for that value in the rounded stream."""
        added = [residual_of(group.sites[0]) for group in groups]
        names = [operand.value, *(name for name in added if name)]
        moments = _Moments.zero(len(groups))
        streams = (
            run_block(self._flow, number, self._float, names, {}, self._pool),
            run_block(self._flow, number, self._rounded, names, self._weights, self._pool),
        )
        for (_, exact), (_, rounded) in zip(*streams, strict=True):
            moments.add(operand, added, exact, rounded)

        def work(i: int) -> None:
            group = groups[i]
            wanted = moments.corrected(group.sites[0].array(), i)
            self._put(group, lambda: self._by_gptq(group, wanted, moments.hessian))

        with one_blas_thread():
            list(self._pool.map(work, range(len(groups))))

    def _by_gptq(self, group: Group, weight: F32, hessian: np.ndarray) -> Outcome:
        return round_by(NAME, weight, self._types[group.name], hessian)

    def _put(self, group: Group, make: Callable[[], Outcome]) -> None:
        """Add a rounded weight, from the file of an earlier run if there is one."""
        file = f"{self._groups.index(group)}.npz"
        path = self._place / file
        if not entries.has(self._place, file):
            with entries.put(self._place, file) as aside:
                save_outcome(aside, make())
        dtype = self._types[group.name]
        self._weights[group.weight_name] = group.stored(load_outcome(path).rounded, dtype)
        self._files.update({site.name: file for site in group.sites})

    def _advance(self, number: int) -> None:
        """Move both streams to the next block, and free weights that no later block reads."""
        flow, last = self._flow, number == len(self._flow.chain.blocks) - 1
        wanted = [] if last else flow.wanted[number]
        for values, weights in ((self._float, {}), (self._rounded, self._weights)):
            for some, seen in run_block(flow, number, values, wanted, weights, self._pool):
                values[some] = [flow.kept(number, window) for window in seen]
        later = {g.weight_name for g in self._groups if g.blocks[-1] > number}
        self._weights = {k: w for k, w in self._weights.items() if k in later}


class _Moments:
    """Sums over tokens: X~ X~', (X - X~) X~', and the error of the residual stream times X~'."""

    def __init__(self, lost: list[F32 | float]) -> None:
        self._square: F32 | float = 0.0
        self._drift: F32 | float = 0.0
        self._lost = lost
        self._rows = 0

    @staticmethod
    def zero(count: int) -> _Moments:
        return _Moments([0.0] * count)

    @property
    def hessian(self) -> F32:
        return np.asarray(self._square / np.float32(self._rows))

    def add(
        self,
        operand: Operand,
        added: Sequence[str | None],
        exact: Sequence[Values],
        rounded: Sequence[Values],
    ) -> None:
        """Add windows of both streams; ``added`` has what each site's product is added to."""
        x = np.concatenate([operand.rows(window[operand.value]) for window in exact])
        y = np.concatenate([operand.rows(window[operand.value]) for window in rounded])
        self._rows += len(y)
        self._square = self._square + y.T @ y
        self._drift = self._drift + (x - y).T @ y
        for i, name in enumerate(added):
            if name is None or any(name not in w for w in (*exact, *rounded)):
                continue
            pairs = zip(exact, rounded, strict=True)
            miss = np.concatenate([(a[name] - b[name]).reshape(-1, a[name].shape[-1])
                                   for a, b in pairs])  # fmt: skip
            if len(miss) == len(y):
                self._lost[i] = self._lost[i] + miss.T @ y

    def corrected(self, weight: F32, i: int) -> F32:
        """The weight [N, K] of site i whose products with X~ are closest to the wanted outputs."""
        square = np.asarray(self._square, np.float64)
        mean = float(np.diag(square).mean())
        if mean <= 0:
            return weight
        square[np.diag_indices_from(square)] += RIDGE * mean
        miss = weight @ np.asarray(self._drift) + self._lost[i]
        step = np.linalg.solve(square, miss.T.astype(np.float64)).T
        return np.asarray(weight + step, np.float32)


def residual_of(site: Site) -> str | None:
    """The value that a site's product is added to, if the product has no other use."""
    product = site.node.outputs[0]
    uses = list(product.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None
    others = [v for v in uses[0].node.inputs if v is not None and v is not product]
    return others[0].name if others and others[0].const_value is None else None
