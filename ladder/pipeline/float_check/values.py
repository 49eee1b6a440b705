"""The values inside a model, as ONNX Runtime computes them from its inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

from ladder.pipeline.float_check.random_inputs import Arrays
from ladder.reference import Reference

NUDGE = 1e-6  # of a number: more than rounding it to float32


class Values:
    """A model under ONNX Runtime that returns the values ``names`` besides its outputs.

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
