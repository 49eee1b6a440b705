"""Builds the library of one instruction-set level: every graph and kernel in one shared object."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import tvm

from ladder.codegen.link import link
from ladder.codegen.pipeline import ladder_pipeline
from ladder.codegen.relax_import import Importer, Signature
from ladder.codegen.weights import Weights
from ladder.targets import Level


def build_library(
    graphs: dict[str, ir.Model], level: Level, weights: Weights, path: Path
) -> list[Signature]:
    """Compile ``graphs`` (function name -> lowered, bound model) for ``level`` into ``path``.

    Weights are packed into ``weights`` on the way, once for all functions and levels.
    """
    importer = Importer(level.kernels, weights)
    signatures = [importer.add(model, name) for name, model in graphs.items()]
    module = importer.builder.get()
    target = tvm.target.Target(dict(level.llvm))
    executable = tvm.compile(module, target=target, relax_pipeline=ladder_pipeline)
    executable.export_library(str(path), fcompile=link)
    return signatures
