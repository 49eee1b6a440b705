"""Graphs of float operators as TVM runs them, compiled and called in this process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax

from ladder.codegen.packing import Weights
from ladder.codegen.pipeline import ladder_pipeline
from ladder.codegen.relax_import import Importer
from ladder.hardware.targets import Level


class FloatGraphs:
    """Functions by name; every dimension of their models is bound. Changes the models."""

    def __init__(self, models: Mapping[str, ir.Model], level: Level) -> None:
        self._weights = Weights()
        importer = Importer(level.kernels, self._weights)
        self._signatures = {name: importer.add(model, name) for name, model in models.items()}
        target = tvm.target.Target(dict(level.llvm))
        built = tvm.compile(importer.builder.get(), target, relax_pipeline=ladder_pipeline)
        self._machine = relax.VirtualMachine(built, tvm.cpu())

    def run(self, name: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name; ``feeds`` are copied, since states are written in place."""
        signature = self._signatures[name]
        arrays = [feeds[key] for key, _, _ in signature.inputs]
        arrays += [self._weights.arrays[key] for key in signature.weights]
        returned = self._machine[name](*[tvm.runtime.tensor(array) for array in arrays])
        return {
            key: np.array(value.numpy())
            for key, value in zip(signature.outputs, returned, strict=True)
        }
