"""Which frontend reads what."""

from __future__ import annotations

from pathlib import Path

from ladder.errors import LadderError
from ladder.frontend.types import Source


def load(path: str | Path) -> Source:
    """Read a model file or folder by what it holds; anything unreadable is a ``LadderError``."""
    where = Path(path)
    if not where.exists():
        raise LadderError(
            f"{where}: no such file or folder; give an ONNX or GGUF file, or a folder"
        )
    if where.is_dir():
        return _load_folder(where)
    if where.suffix == ".gguf":
        from ladder.frontend.huggingface import load_gguf

        return load_gguf(where)
    if where.suffix == ".onnx":
        from ladder.frontend.onnx_file import load_onnx

        return load_onnx(where)
    raise LadderError(f"{where}: unknown kind of file; give .onnx, .gguf or a Hugging Face folder")


def _load_folder(folder: Path) -> Source:
    if (folder / "config.json").exists():
        from ladder.frontend.huggingface import load_folder

        return load_folder(folder)
    found = sorted([*folder.glob("*.gguf"), *folder.glob("*.onnx")])
    if len(found) == 1:
        return load(found[0])
    held = "no" if not found else "more than one"
    raise LadderError(f"{folder}: holds no config.json and {held} .gguf or .onnx; name the file")
