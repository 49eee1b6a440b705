"""Files of an artifact that are used as they were hashed: what is read once is never read again.

A file is opened once. Its hash and its use come from the same open file, so that putting another
file in its place between the two has no effect.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from io import BufferedReader
from pathlib import Path

import numpy as np

from ladder.errors import LadderError


def read_verified(path: Path, hashes: dict[str, str]) -> bytes:
    """The content of a file whose SHA-256 is in ``hashes``, by the file's name."""
    with opened(path) as file:
        content = file.read()
    _check(path, hashlib.sha256(content).hexdigest(), hashes)
    return content


def map_verified(path: Path, hashes: dict[str, str]) -> np.ndarray:
    """The same as uint8 [bytes], mapped copy-on-write: pages are read when they are first used."""
    with opened(path) as file:
        _check(path, hashlib.file_digest(file, "sha256").hexdigest(), hashes)
        if os.fstat(file.fileno()).st_size == 0:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


def opened(path: Path) -> BufferedReader:
    """A regular file, open for reading; a pipe or a device, which might never end, is refused."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except FileNotFoundError as error:
        raise LadderError(f"{path}: missing from the artifact; compile the model again") from error
    except OSError as error:
        raise LadderError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise LadderError(f"{path}: is no regular file; copy or compile the artifact again")
    return file


def _check(path: Path, digest: str, hashes: dict[str, str]) -> None:
    if digest != hashes.get(path.name):
        raise LadderError(
            f"{path}: damaged (its hash differs from the manifest's); copy or compile it again"
        )
