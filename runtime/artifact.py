"""The artifact folder: manifest, one library per instruction-set level, packed weights, tokenizer.

manifest.json    format, versions, hashes, functions, tensors, what each site got
LEVEL.so         kernels and graphs for that level
weights.bin      all tensors, 64-byte aligned, memory-mapped when loaded
tokenizer.json   for language models that have one
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level, runs_here

FORMAT = 1
MANIFEST, WEIGHTS, TOKENIZER = "manifest.json", "weights.bin", "tokenizer.json"
ALIGNMENT = 64
KEYS = ("levels", "files", "functions", "tensors", "language_model", "report", "origin")


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: its manifest, its folder, and the level chosen for this CPU."""

    folder: Path
    manifest: dict[str, Any]
    level: Level

    @staticmethod
    def load(folder: Path) -> Artifact:
        """Read and verify; anything wrong is a ``LadderError`` that says what and what to do."""
        manifest = read_manifest(folder)
        artifact = Artifact(folder, manifest, _choose_level(folder, manifest))
        for name in (
            WEIGHTS,
            artifact.library.name,
            *([TOKENIZER] if artifact.has_tokenizer else []),
        ):
            _check_hash(folder / name, manifest["files"])
        return artifact

    @property
    def library(self) -> Path:
        return self.folder / f"{self.level.name}.so"

    @property
    def has_tokenizer(self) -> bool:
        return TOKENIZER in self.manifest["files"]

    @property
    def language_model(self) -> dict[str, Any] | None:
        """What generation needs (context, chunk, states, eos), or None for other models."""
        found: dict[str, Any] | None = self.manifest["language_model"]
        return found

    @property
    def size_bytes(self) -> int:
        """Everything in the folder that this machine needs, libraries of other levels too."""
        return sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file())

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights, mapped copy-on-write: read from disk as they are first used."""
        path = self.folder / WEIGHTS
        if path.stat().st_size == 0:
            return {}
        data = np.memmap(path, mode="c", dtype=np.uint8)
        return {name: _view(data, row) for name, row in self.manifest["tensors"].items()}


def _view(data: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(row["dtype"])
    size = int(np.prod(row["shape"], dtype=np.int64)) * dtype.itemsize
    piece = data[row["offset"] : row["offset"] + size]
    view: np.ndarray = np.asarray(piece).view(dtype).reshape(row["shape"])
    return view


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its format checked."""
    if not folder.is_dir():
        raise LadderError(f"{folder}: no such artifact folder; make one with 'ladder compile'")
    path = folder / MANIFEST
    if not path.exists():
        raise LadderError(f"{folder}: not a Ladder artifact (no {MANIFEST}); see 'ladder compile'")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        version = manifest["format"]
        missing = [key for key in KEYS if key not in manifest] if version == FORMAT else []
        if missing:
            raise KeyError(missing[0])
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise LadderError(f"{path}: damaged manifest; compile the model again") from error
    if version != FORMAT:
        raise LadderError(
            f"{folder}: artifact format {version}, this Ladder reads format {FORMAT}; "
            "compile the model again with this version"
        )
    return manifest


def _choose_level(folder: Path, manifest: dict[str, Any]) -> Level:
    names: list[str] = manifest["levels"]
    able = [LEVELS[n] for n in LEVELS if n in names and runs_here(LEVELS[n])]
    if not able:
        raise LadderError(
            f"{folder}: compiled for {', '.join(names)}, which this CPU is not; "
            "compile with --target native here, or for another target"
        )
    return able[-1]


def _check_hash(path: Path, hashes: dict[str, str]) -> None:
    if not path.exists():
        raise LadderError(f"{path}: missing from the artifact; compile the model again")
    if file_hash(path) != hashes[path.name]:
        raise LadderError(
            f"{path}: damaged (its hash is not the manifest's); copy or compile the artifact again"
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
