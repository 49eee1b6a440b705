"""Finds the frontend for a model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import LadderError
from ladder.frontend.types import Source


@dataclass(frozen=True)
class Frontend:
    """A ``kind`` of model: a file with ``suffix``, or a folder that holds the file ``marker``.

    ``reader`` is MODULE:FUNCTION, imported when it is needed. ``traced`` says that reading is slow,
    so that its result is cached. ``code`` says that the model may have Python code of its own, and
    that ``reader`` takes whether it is trusted.
    """

    reader: str
    kind: str = ""
    suffix: str = ""
    marker: str = ""
    traced: bool = True
    code: bool = False

    def accepts(self, path: Path) -> bool:
        if self.marker and path.is_dir():
            return (path / self.marker).exists()
        return bool(self.suffix) and path.suffix == self.suffix and not path.is_dir()

    def read(self, path: Path, trust: bool = False) -> Source:
        module, _, name = self.reader.partition(":")
        function: Callable[..., Source] = getattr(importlib.import_module(module), name)
        return function(path, trust) if self.code else function(path)


FRONTENDS = (
    Frontend("ladder.frontend.onnx_file:load_onnx", "ONNX", suffix=".onnx", traced=False),
    Frontend("ladder.frontend.huggingface:load_gguf", "GGUF", suffix=".gguf"),
    Frontend(
        "ladder.frontend.huggingface:load_folder", "Hugging Face", marker="config.json", code=True
    ),
)
SUFFIXES = tuple(frontend.suffix for frontend in FRONTENDS if frontend.suffix)


def find_frontend(path: Path) -> tuple[Frontend, Path]:
    """The frontend for a path, and the path that it reads; refuse what no frontend reads.

    For a folder without a marker, the path is the only model file in it.
    """
    if not path.exists():
        raise LadderError(f"{path}: no such file or folder; give an ONNX or GGUF file, or a folder")
    for frontend in FRONTENDS:
        if frontend.accepts(path):
            return frontend, path
    if path.is_dir():
        return find_frontend(_only_file(path))
    raise LadderError(f"{path}: unknown kind of file; give .onnx, .gguf or a Hugging Face folder")


def is_read_as_it_is(path: Path) -> bool:
    """Whether the file is a graph already, that nothing was traced for."""
    return path.is_file() and any(f.accepts(path) and not f.traced for f in FRONTENDS)


def load(path: str | Path, trust: bool = False) -> Source:
    """Read a model file or folder; raise a ``LadderError`` if it cannot be read.

    ``trust`` allows to run Python code of the model's folder.
    """
    frontend, where = find_frontend(Path(path))
    return frontend.read(where, trust)


def _only_file(folder: Path) -> Path:
    found = sorted(file for suffix in SUFFIXES for file in folder.glob(f"*{suffix}"))
    if len(found) == 1:
        return found[0]
    held = "no" if not found else "more than one"
    raise LadderError(f"{folder}: holds no config.json and {held} .gguf or .onnx; give the file")
