"""The content-addressed cache: traces, compiled artifacts, downloaded packages.

It is in ``$LADDER_CACHE``, else ``~/.cache/ladder``. Keys hash what the result depends on: the
model's bytes, the options, the versions, and the modules of Ladder that make entries of its kind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

from ladder.support.import_closure import closure_digest

VARIABLE = "LADDER_CACHE"
# The modules that make the entries of each kind. A key hashes them and all that they import.
# Results depend on a model's graph, and so on the modules that read a model: a key has only the
# digest of the model's file.
READ = (
    "ladder.frontend.load",
    "ladder.frontend.huggingface",
    "ladder.passes.clean_up",
    "ladder.passes.fuse_operators",
)
MAKERS: dict[str, tuple[str, ...]] = {
    "traces": (*READ, "ladder.pipeline.trace_check"),
    "activations": (*READ, "ladder.calibration.activations"),
    "hessians": (*READ, "ladder.calibration.hessians"),
    "rounded": (*READ, "ladder.calibration.rounded_weights"),
    "ordered": (*READ, "ladder.calibration.gptaq"),
    "learned": (*READ, "ladder.calibration.learned.result"),
    "sensitivity": (*READ, "ladder.sensitivity.measure"),
    "artifacts": (
        *READ,
        "ladder.pipeline.compile",
        "ladder.calibration.gptaq",  # rounding methods are imported by name
        "ladder.calibration.learned.result",
    ),
    "kernels": ("ladder.codegen.kernel_library", "ladder.timing.catalogue"),
    "tuned": ("ladder.timing.product",),
    "costs": ("ladder.timing.product_costs",),
}


def cache_folder() -> Path:
    """The folder of the cache."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "ladder")


def entry(kind: str, *parts: object) -> Path:
    """The path of the result of ``kind`` for these inputs, which need not exist yet."""
    text = "\n".join(str(part) for part in (*parts, code_digest(kind)))
    return cache_folder() / kind / hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def code_digest(kind: str) -> str:
    """Hash of the code that makes the entries of ``kind``."""
    return closure_digest(*MAKERS[kind])


def clear() -> int:
    """Remove everything; return the bytes freed."""
    size = size_bytes()
    shutil.rmtree(cache_folder(), ignore_errors=True)
    return size


def size_bytes() -> int:
    """Bytes that the cache takes."""
    root = cache_folder()
    return sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) if root.exists() else 0
