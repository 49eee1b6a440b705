"""The values inside a model, as ONNX Runtime computes them from its inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import onnx_ir as ir

from ladder.pipeline.float_check.differences import difference, excess
from ladder.pipeline.float_check.random_inputs import Arrays, Run
from ladder.reference import Reference

NUDGE = 1e-6  # of a number: more than rounding it to float32
EXPLAINED = 30  # times what a nudge of the inputs changes: then float arithmetic explains it


class Values:
    """A model under ONNX Runtime that returns the values ``names`` and its outputs.

    Nothing is optimized: every operator is computed as its definition says.
    """

    def __init__(self, model: ir.Model, names: Collection[str] = ()) -> None:
        copy = model.clone()
        shown = {value.name for value in copy.graph.outputs}
        for value in made_in(copy):
            if value.name in names and value.name not in shown:
                copy.graph.outputs.append(value)
        self._reference = Reference(copy, optimize=False)

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """The values by name, of the inputs that the model has."""
        return self._reference.run({k: v for k, v in feeds.items() if k in self._reference.inputs})


def made_in(model: ir.Model) -> Iterator[ir.Value]:
    """The values that nodes of the main graph compute, in order."""
    for node in model.graph:
        yield from (value for value in node.outputs if value.name)


def nudged(feeds: Arrays) -> dict[str, np.ndarray]:
    """The same with every float a little different."""
    random = np.random.default_rng(0)

    def moved(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        return (array * (1 + NUDGE * random.standard_normal(array.shape))).astype(array.dtype)

    return {name: moved(array) for name, array in feeds.items()}


def unexplained(run: Callable[[Arrays], Arrays], wanted: Run, got: Arrays) -> dict[str, float]:
    """The outputs that differ by more than a tiny change of the inputs would explain."""
    bad = excess(got, wanted.outputs)
    if not bad:
        return {}
    moved = run(nudged(wanted.feeds))
    changed = {name: difference(moved[name], wanted.outputs[name]) for name in bad}
    return {name: error for name, error in bad.items() if not error <= EXPLAINED * changed[name]}
