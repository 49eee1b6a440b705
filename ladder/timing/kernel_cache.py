"""The kernel libraries in the cache: one for each level, built once for a version of Ladder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ladder.hardware.targets import ACCELERATORS, LEVELS, Level
from ladder.ir.dtype import DType
from ladder.support import cache, entries
from ladder.support.files import folder_aside
from ladder.support.progress import stage


def place_of(level: Level) -> Path:
    """The path of the library of a level, which need not exist yet."""
    return cache.entry("kernels", level.name, version("apache-tvm")) / f"{level.name}.so"


def build(level: Level, output: Path | None = None) -> dict[str, Any]:
    """Build the library of every type of ``ladder types`` if the cache has none, and copy it."""
    from ladder.codegen.kernel_library import build_kernels
    from ladder.timing.catalogue import all_types

    place, start = place_of(level), time.perf_counter()
    types, built = all_types(), not entries.has(place.parent, place.name)
    if built:
        with (
            stage(f"build the kernels of {level.name}"),
            entries.put(place.parent, place.name) as aside,
        ):
            build_kernels(level, types, aside)
        forget()
    if output is not None:
        shutil.copy(place, output)
    return {
        "level": level.name,
        "file": str(output or place),
        "size_bytes": place.stat().st_size,
        "types": len(types),
        "built": built,
        "seconds": round(time.perf_counter() - start, 2),
    }


def build_accelerator(target: str, types: Sequence[DType], folder: Path) -> dict[str, Any]:
    """Build the kernels of ``types`` for an NPU or a GPU, as files for a host program.

    Without ``types``, build all that have kernels there; the others are reported with the reason.
    """
    from ladder.codegen import hexagon_library, opencl_library
    from ladder.timing.catalogue import all_types

    accelerator, start = ACCELERATORS[target], time.perf_counter()
    hexagon = accelerator.arch == "hexagon"
    left_out = [] if types or not hexagon else hexagon_library.without_kernels(all_types())
    chosen = list(types) or [dtype for dtype in all_types() if dtype not in left_out]
    ours = hexagon_library.own_files if hexagon else opencl_library.own_files
    make = hexagon_library.build_hexagon if hexagon else opencl_library.build_opencl
    with stage(f"build the kernels of {target}"), folder_aside(folder, ours) as aside:
        kernels = make(accelerator.config, chosen, aside)
    return {
        "target": target,
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "types": [str(dtype) for dtype in chosen],
        "left_out": {str(dtype): hexagon_library.WHY_NOT for dtype in left_out},
        "kernels": len(kernels),
        "seconds": round(time.perf_counter() - start, 2),
    }


def function(name: str, level: str) -> Any | None:
    """A kernel of the level's library by name; None if there is no library or no such kernel."""
    library = _loaded(place_of(LEVELS[level]))
    if library is None or not library.implements_function(name):
        return None
    return library.get_function(name)


def forget() -> None:
    """Forget loaded libraries, because one was built or removed."""
    _loaded.cache_clear()


@once
def _loaded(path: Path) -> Any | None:
    if not entries.has(path.parent, path.name):
        return None
    import tvm_ffi

    return tvm_ffi.load_module(str(path))
