"""Modules that were documented under another name: importing one says the new name."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

MOVED = {
    "ladder.calibrated": "ladder.calibration.hessians",
    "ladder.config": "ladder.options.user_types",
    "ladder.passes.base": "ladder.passes.infra.base",
    "ladder.passes.runner": "ladder.passes.infra.runner",
    "ladder.sensitivity.data": "ladder.calibration.data",
    "ladder.targets": "ladder.hardware.targets",
}


class Finder(MetaPathFinder):
    """Asked last, of modules that are nowhere."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in MOVED:
            raise ModuleNotFoundError(f"{name} is now {MOVED[name]}", name=name)


def install() -> None:
    """Append the finder, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
