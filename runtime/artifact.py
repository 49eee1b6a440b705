"""The artifact folder: manifest, one library per instruction level, packed weights, tokenizer.

manifest.json    format, versions, hashes, functions, tensors, report of each site
LEVEL.so         kernels and graphs for that level
weights.bin      all tensors, 64-byte aligned, memory-mapped when loaded
tokenizer.json   for language models that have one
manifest.sig     the signature of the manifest, of artifacts that are signed
measured.json    what 'ladder eval' and 'ladder bench' found of it; the runtime does not read it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level, runs_here
from ladder.runtime.manifest import CHECKSUM, LanguageModelFacts, Manifest, Tensor, upgraded
from ladder.runtime.signature import SIGNATURE, check_signature, sign
from ladder.runtime.verified import map_verified, opened, read_verified
from ladder.support.documents import parse_json
from ladder.support.files import file_aside

MANIFEST, WEIGHTS, TOKENIZER = "manifest.json", "weights.bin", "tokenizer.json"
REPORT = "report.html"  # where 'ladder report' writes to
MEASURED = "measured.json"  # where the results of measurements are kept
LONGEST = 64 << 20  # bytes of a manifest


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: what is used of it, exactly as it was hashed.

    ``facts`` are the fields of the manifest that the runtime reads. ``level`` is the one chosen for
    this CPU, ``library`` its library, ``weights`` the file of weights, uint8 [bytes].
    """

    folder: Path
    manifest: dict[str, Any]
    facts: Manifest
    level: Level
    library: bytes
    weights: np.ndarray
    tokenizer: str | None

    @staticmethod
    def load(folder: Path, verify_key: Path | None = None) -> Artifact:
        """Read and verify; a ``LadderError`` says what is wrong and what to do.

        With ``verify_key``, a file with a public key, the artifact's signature is checked too.
        """
        manifest, facts = _read(folder, verify_key)
        level = _choose_level(folder, facts.levels)
        library = read_verified(folder / f"{level.name}.so", facts.files)
        weights = map_verified(folder / WEIGHTS, facts.files)
        with _naming(folder / MANIFEST):
            facts.check_places(len(weights))
        return Artifact(folder, manifest, facts, level, library, weights, _tokenizer(folder, facts))

    @property
    def language_model(self) -> LanguageModelFacts | None:
        """What generation needs, or None for other models."""
        return self.facts.language_model

    @property
    def size_bytes(self) -> int:
        """The size of all files in the folder, including libraries of other levels."""
        return sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file())

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by name, as views of the mapped file."""
        return {name: _view(self.weights, tensor) for name, tensor in self.facts.tensors.items()}


def _view(data: np.ndarray, tensor: Tensor) -> np.ndarray:
    piece = data[tensor.offset : tensor.end]
    view: np.ndarray = piece.view(np.dtype(tensor.dtype)).reshape(tensor.shape)
    return view


def _tokenizer(folder: Path, facts: Manifest) -> str | None:
    if TOKENIZER not in facts.files:
        return None
    return read_verified(folder / TOKENIZER, facts.files).decode()


def read_manifest(folder: Path, verify_key: Path | None = None) -> dict[str, Any]:
    """The manifest, checked; one of an earlier format is converted to this one.

    With ``verify_key``, a file with a public key, its signature is checked too.
    """
    return _read(folder, verify_key)[0]


def own_files(folder: Path) -> set[str] | None:
    """The names of what an artifact's folder holds, reports too; None for other folders."""
    try:
        facts = _read(folder)[1]
    except (LadderError, OSError):
        return None
    return {MANIFEST, SIGNATURE, REPORT, MEASURED, *facts.files}


def _read(folder: Path, verify_key: Path | None = None) -> tuple[dict[str, Any], Manifest]:
    """The manifest as it is, and the fields that the runtime reads."""
    if not folder.is_dir():
        raise LadderError(f"{folder}: no such artifact folder; make one with 'ladder compile'")
    path = folder / MANIFEST
    if not path.exists():
        raise LadderError(f"{folder}: not a Ladder artifact (no {MANIFEST}); see 'ladder compile'")
    with opened(path) as file:
        content = file.read(LONGEST)
    if verify_key is not None:
        check_signature(folder, content, verify_key)
    with _naming(path):
        manifest = upgraded(_parsed(path, content))
        facts = Manifest.of(manifest)
    manifest.pop(CHECKSUM, None)  # it was of the text
    return manifest, facts


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return parse_json(content.decode())
    except ValueError as error:
        raise LadderError("damaged manifest") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add to a refusal the file that it is about, and what to do."""
    try:
        yield
    except LadderError as error:
        raise LadderError(f"{path}: {error}; compile the model again with this version") from error


def sign_artifact(folder: Path, key: Path) -> Path:
    """Sign an artifact whose files are whole, with a private key; returns the signature's file."""
    facts = _read(folder)[1]
    for name in facts.files:
        read_verified(folder / name, facts.files)
    path = folder / SIGNATURE
    with file_aside(path) as aside:
        aside.write_bytes(sign((folder / MANIFEST).read_bytes(), key))
    return path


def _choose_level(folder: Path, names: Sequence[str]) -> Level:
    able = [LEVELS[n] for n in LEVELS if n in names and runs_here(LEVELS[n])]
    if not able:
        raise LadderError(
            f"{folder}: compiled for {', '.join(names)}, which this CPU does not support; "
            "compile with --target native here, or for another target"
        )
    return able[-1]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
