"""The content-addressed cache: traces, compiled artifacts, downloaded packages.

It lives in ``$LADDER_CACHE``, else ``~/.cache/ladder``; a marker file says that the folder is
Ladder's. Keys hash what the result depends on: the model's bytes, the options, the versions, and
the modules of Ladder that make entries of its kind.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
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
    "ladder.passes.gather_experts",
)
MAKERS: dict[str, tuple[str, ...]] = {
    "traces": (*READ, "ladder.pipeline.trace_check"),
    "checks": (*READ, "ladder.pipeline.float_check.check"),
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
UNKEYED = ("packages", "demo", "emulation", "trained")  # that have names for keys
MARKER = "CACHEDIR.TAG"
# The first line is https://bford.info/cachedir: programs that make backups leave such folders out.
MARK = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is the cache of Ladder. "ladder cache clear" removes what is in it.
"""


def cache_folder() -> Path:
    """The folder of the cache."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "ladder")


def entry(kind: str, *parts: object) -> Path:
    """The folder where the result of ``kind`` for these inputs lies, or is to be put."""
    text = "\n".join(str(part) for part in (*parts, code_digest(kind)))
    return cache_folder() / kind / hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def code_digest(kind: str) -> str:
    """Hash of the code that makes the entries of ``kind``."""
    return closure_digest(*MAKERS[kind])


def is_own() -> bool:
    """Whether the root is Ladder's: it has the marker, or nothing but what a cache has."""
    root = cache_folder()
    try:
        return (root / MARKER).read_text() == MARK
    except (OSError, UnicodeDecodeError):
        names = {path.name for path in root.iterdir()} if root.is_dir() else set()
        return names <= {*MAKERS, *UNKEYED}


def prepare(folder: Path) -> None:
    """Make a folder for files of the cache, and mark the root; nobody else may look into them."""
    root = cache_folder()
    if folder.is_relative_to(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        if is_own() and not (root / MARKER).exists():
            with contextlib.suppress(FileExistsError), (root / MARKER).open("x") as file:
                file.write(MARK)
    for path in (*reversed(folder.parents), folder):
        path.mkdir(mode=0o700, exist_ok=True) if not path.exists() else None
