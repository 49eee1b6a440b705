"""Sites that share a weight, and the weight after rounding to a type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.blocks import Chain
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.facts import Hessians
from ladder.ir.site import Site, constant_of, find_sites
from ladder.passes.rounding.hessian import hessian_of
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.one_weight import Outcome, round_by

A = TypeVar("A", bound=Any)  # an array of NumPy or of torch


@dataclass(frozen=True)
class Task:
    """One measurement: the sites of a weight, named by the first site, in one type."""

    group: str
    type: str


@dataclass(frozen=True)
class Group:
    """Sites that share a weight (such as a tied embedding and lm_head), and so have one score.

    ``blocks`` are the numbers of the blocks that read the weight. If only some sites read it
    transposed, it is rounded as the first site reads it.
    """

    sites: tuple[Site, ...]
    blocks: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.sites[0].name

    @property
    def weight_name(self) -> str:
        return self.sites[0].weight.name or ""

    def rounded(self, dtype: DType, method: str, hessians: Hessians | None = None) -> np.ndarray:
        """The weight after rounding to ``dtype`` and back, as the model stores it."""
        if dtype.is_float:
            kind = np.float16 if dtype.name == "fp16" else np.float32
            w = self._weight().astype(kind).astype(np.float32)
            return _in_kind(self.sites[0], w)
        return self.stored(self.outcome(dtype, method, hessians).rounded, dtype)

    def outcome(self, dtype: DType, method: str, hessians: Hessians | None = None) -> Outcome:
        """The weight [N, K] in a low-bit type."""
        hessian = hessian_of(self.sites, hessians or Hessians())
        return round_by(method, self._weight(), dtype, hessian)

    def _weight(self) -> np.ndarray:
        site = self.sites[0]
        weight = site.array()
        if not np.isfinite(weight).all():
            raise LadderError(
                f"site {site.name}: its weight has NaN or infinity; "
                "check the model file, or keep the site with --keep"
            )
        return weight

    def stored(self, done: Rounded, dtype: DType) -> np.ndarray:
        """A rounded weight in the layout and the type of the model's initializer."""
        w = dequantized(dtype, done.codes, done.scale, done.zero, done.tensor_scale)
        return _in_kind(self.sites[0], w)


def _in_kind(site: Site, w: np.ndarray) -> np.ndarray:
    stored = as_stored(site, w).astype(site.kind.numpy(), copy=False)
    return np.ascontiguousarray(stored)


# A weight after rounding to a type and back, as the model stores it.
Rounder = Callable[[Group, DType], np.ndarray]


def rounder(method: str, hessians: Hessians | None = None) -> Rounder:
    """A rounder that rounds every weight by itself."""
    return lambda group, dtype: group.rounded(dtype, method, hessians)


def find_groups(model: ir.Model, chain: Chain) -> list[Group]:
    """All sites, grouped by weight, in the order of their first blocks."""
    by_weight: dict[ir.Value, list[Site]] = {}
    for site in find_sites(model)[0]:
        by_weight.setdefault(site.weight, []).append(site)
    groups = []
    for sites in by_weight.values():
        blocks = {chain.block_of(site.node) for site in sites}
        groups.append(Group(tuple(sites), tuple(sorted(blocks))))
    return sorted(groups, key=lambda group: group.blocks[0])


def tasks_of(groups: Sequence[Group], types: Sequence[str]) -> list[Task]:
    """Every weight in every type. Weights that cannot be rounded are refused."""
    if not types:
        raise LadderError("no types to measure: give some, for example int2:g64|int4:g128")
    named = list(dict.fromkeys(str(DType.parse(t)) for t in types))
    return [Task(group.name, t) for group in groups for t in named]


def as_stored(site: Site, w: A) -> A:
    """Undo ``Site.array``: bring [N, K] (NumPy or torch) into the layout of the initializer."""
    tensor = constant_of(site.weight)
    assert tensor is not None
    shape = [int(d) for d in tensor.shape]  # type: ignore[arg-type]
    w = w.T if site.transposed else w
    if site.node.op_type == "Conv":
        # [O, taps, channels] -> [O, channels, *taps], see ladder.ir.convolution.rows_of
        w = w.reshape(shape[0], -1, shape[1]).swapaxes(1, 2).reshape(shape)
    return w
