"""The artifact folder: manifest, one library per instruction level, packed weights, tokenizer.

manifest.json    format, versions, hashes, functions, tensors, report of each site
LEVEL.so         kernels and graphs for that level
weights.bin      all tensors, 64-byte aligned, memory-mapped when loaded
tokenizer.json   for language models that have one
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level, runs_here
from ladder.runtime.manifest import LanguageModelFacts, Manifest, Tensor, upgraded

MANIFEST, WEIGHTS, TOKENIZER = "manifest.json", "weights.bin", "tokenizer.json"
REPORT = "report.html"  # where 'ladder report' writes to
ALIGNMENT = 64


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: its folder, its manifest, and the level chosen for this CPU.

    ``facts`` are the fields of the manifest that the runtime reads.
    """

    folder: Path
    manifest: dict[str, Any]
    facts: Manifest
    level: Level

    @staticmethod
    def load(folder: Path) -> Artifact:
        """Read and verify; a ``LadderError`` says what is wrong and what to do."""
        manifest, facts = _read(folder)
        artifact = Artifact(folder, manifest, facts, _choose_level(folder, facts.levels))
        for name in (
            WEIGHTS,
            artifact.library.name,
            *([TOKENIZER] if artifact.has_tokenizer else []),
        ):
            _check_hash(folder / name, facts.files)
        return artifact

    @property
    def library(self) -> Path:
        return self.folder / f"{self.level.name}.so"

    @property
    def has_tokenizer(self) -> bool:
        return TOKENIZER in self.facts.files

    @property
    def language_model(self) -> LanguageModelFacts | None:
        """What generation needs, or None for other models."""
        return self.facts.language_model

    @property
    def size_bytes(self) -> int:
        """The size of all files in the folder, including libraries of other levels."""
        return sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file())

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights, mapped copy-on-write: read from disk as they are first used."""
        path = self.folder / WEIGHTS
        if path.stat().st_size == 0:
            return {}
        data = np.memmap(path, mode="c", dtype=np.uint8)
        return {name: _view(data, tensor) for name, tensor in self.facts.tensors.items()}


def _view(data: np.ndarray, tensor: Tensor) -> np.ndarray:
    dtype = np.dtype(tensor.dtype)
    size = int(np.prod(tensor.shape, dtype=np.int64)) * dtype.itemsize
    piece = data[tensor.offset : tensor.offset + size]
    view: np.ndarray = np.asarray(piece).view(dtype).reshape(tensor.shape)
    return view


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked; one of an earlier format is converted to this one."""
    return _read(folder)[0]


def own_files(folder: Path) -> set[str] | None:
    """The names of what an artifact's folder holds, a report's page too; None for other folders."""
    try:
        facts = _read(folder)[1]
    except (LadderError, OSError):
        return None
    return {MANIFEST, REPORT, *facts.files}


def _read(folder: Path) -> tuple[dict[str, Any], Manifest]:
    """The manifest as it is, and the fields that the runtime reads."""
    if not folder.is_dir():
        raise LadderError(f"{folder}: no such artifact folder; make one with 'ladder compile'")
    path = folder / MANIFEST
    if not path.exists():
        raise LadderError(f"{folder}: not a Ladder artifact (no {MANIFEST}); see 'ladder compile'")
    try:
        manifest = upgraded(json.loads(path.read_text()))
        return manifest, Manifest.of(manifest)
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise LadderError(f"{path}: damaged manifest; compile the model again") from error
    except LadderError as error:
        raise LadderError(f"{path}: {error}; compile the model again with this version") from error


def _choose_level(folder: Path, names: Sequence[str]) -> Level:
    able = [LEVELS[n] for n in LEVELS if n in names and runs_here(LEVELS[n])]
    if not able:
        raise LadderError(
            f"{folder}: compiled for {', '.join(names)}, which this CPU does not support; "
            "compile with --target native here, or for another target"
        )
    return able[-1]


def _check_hash(path: Path, hashes: dict[str, str]) -> None:
    if not path.exists():
        raise LadderError(f"{path}: missing from the artifact; compile the model again")
    if file_hash(path) != hashes.get(path.name):
        raise LadderError(
            f"{path}: damaged (its hash differs from the manifest's); copy or compile it again"
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
