"""Compiles small graphs for a level in this process: their outputs, and the kernels they use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import tvm
from small_graphs import Arrays
from tvm import relax

from ladder.codegen.packing import Weights
from ladder.codegen.pipeline import ladder_pipeline
from ladder.codegen.relax_import import Importer
from ladder.hardware.targets import Level


@dataclass(frozen=True)
class Graph:
    """A compiled graph."""

    kernels: set[str]
    outputs: list[np.ndarray]


def run_compiled(model: ir.Model, level: Level, feeds: Arrays) -> Graph:
    """Compile the lowered ``model`` with all dimensions bound, and call it. Changes ``model``."""
    weights = Weights()
    importer = Importer(level.kernels, weights)
    signature = importer.add(model, "main")
    target = tvm.target.Target(dict(level.llvm))
    with target:
        module = ladder_pipeline(importer.builder.get())
    names = {var.name_hint for var in module.get_global_vars()} - {"main"}
    executable = tvm.compile(importer.builder.get(), target, relax_pipeline=ladder_pipeline)
    arrays = [feeds[name] for name, _, _ in signature.inputs]
    arrays += [weights.arrays[name] for name in signature.weights]
    machine = relax.VirtualMachine(executable, tvm.cpu())
    returned = machine["main"](*[tvm.runtime.tensor(array) for array in arrays])
    return Graph(names, [np.array(value.numpy()) for value in returned])
