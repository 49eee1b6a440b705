"""Extends TVM's ONNX frontend when it is imported, because it and ONNX are slow to load."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

FRONTEND = "tvm.relax.frontend.onnx.onnx_frontend"


def install() -> None:
    """Extend the frontend when it is imported, or now if it already is."""
    if FRONTEND in sys.modules:
        _extend(sys.modules[FRONTEND])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _extend(frontend: ModuleType) -> None:
    from ladder.plugin import onnx_import

    onnx_import.extend(frontend)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the frontend as Python would without us, once, and adds a step after its loading."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != FRONTEND:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self.inner.exec_module(module)
        _extend(module)
