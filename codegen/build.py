"""Builds the library of one instruction level: every graph and kernel in one shared object."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import onnx_ir as ir
import tvm

from ladder.codegen.link import linker_of
from ladder.codegen.packing import Weights
from ladder.codegen.pipeline import ladder_pipeline
from ladder.codegen.relax_import import Importer, Signature
from ladder.errors import LadderError
from ladder.hardware.targets import Level

ROOM = 32_000_000  # object files and libraries of a large model take a few megabytes


def build_library(
    graphs: dict[str, ir.Model], level: Level, weights: Weights, path: Path
) -> list[Signature]:
    """Compile ``graphs`` (function name -> lowered, bound model) for ``level`` into ``path``.

    Weights are packed into ``weights``, once for all functions and levels.
    """
    importer = Importer(level.kernels, weights)
    signatures = [importer.add(model, name) for name, model in graphs.items()]
    module = importer.builder.get()
    target = tvm.target.Target(dict(level.llvm))
    executable = tvm.compile(module, target=target, relax_pipeline=ladder_pipeline)
    # Every linker reports a full disk in its own way, but copying has one: so link elsewhere.
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        check_room(Path(folder))
        linked = Path(folder) / path.name
        executable.export_library(str(linked), fcompile=linker_of(level))
        shutil.copy(linked, path)
    return signatures


def check_room(folder: Path) -> None:
    """Refuse a full disk: LLVM ends the whole process if it cannot write an object file."""
    if shutil.disk_usage(folder).free < ROOM:
        raise LadderError(
            f"{folder.parent}: the disk is full: compiling needs {ROOM // 10**6} MB there; "
            "free some space or set TMPDIR to another folder"
        )
