"""Ladder: a compiler for low-bit models on edge processors.

    import ladder, ladder.runtime
    ladder.compile("model.gguf", "artifact")
    model = ladder.runtime.load("artifact")

Names are loaded when they are first used, so that ``import ladder`` is cheap.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError, NothingToQuantize
from ladder.support import moved

if TYPE_CHECKING:
    from ladder.api import compile, export_onnx, load, plan, register_type
    from ladder.ir.dtype import DType

__version__ = "0.1.0"
__all__ = [
    "DType",
    "LadderError",
    "NothingToQuantize",
    "compile",
    "export_onnx",
    "load",
    "plan",
    "register_type",
]

_HOMES = {
    "load": "ladder.api",
    "compile": "ladder.api",
    "export_onnx": "ladder.api",
    "plan": "ladder.api",
    "register_type": "ladder.api",
    "DType": "ladder.ir.dtype",
}


moved.install()
# ONNX Runtime reports its use to its makers, and writes a number of this machine into the user's
# folder; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from ladder.support.suggest import did_you_mean

        near = did_you_mean(name, _HOMES, {"quantize": "export_onnx"})
        raise AttributeError(f"module 'ladder' has no attribute '{name}'{near}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
