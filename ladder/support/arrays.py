"""Arrays by name out of an NPZ file: numbers that are whole, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.errors import LadderError

READABLE = "biuf"  # kinds of numpy's types: booleans, integers, floats
WHAT = {"O": "Python objects", "c": "complex numbers", "U": "text", "S": "text", "V": "records"}


def read_npz(path: Path, hint: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name; ``hint`` says what to do about one that cannot be read."""
    if not path.exists():
        raise LadderError(f"{path}: no such file; {hint}")
    if path.is_dir():
        raise LadderError(f"{path}: is a folder, not an NPZ file; {hint}")
    try:
        found = np.load(path)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise LadderError(f"{path}: holds one array without a name; {hint}")
        with found as file:
            arrays = {name: _array(path, file, name, hint) for name in file.files}
    except OSError as error:
        reason = error.strerror or "it is not an NPZ file"
        raise LadderError(f"{path}: cannot be read ({reason}); {hint}") from error
    except LadderError:
        raise
    except Exception as error:  # of zipfile and NumPy, of many types
        raise LadderError(f"{path}: not an NPZ file; {hint}") from error
    return arrays


def _array(path: Path, file: np.lib.npyio.NpzFile, name: str, hint: str) -> np.ndarray:
    try:
        array = file[name]
    except ValueError as error:  # above all: objects, which would be unpickled
        reason = WHAT["O"] if "Object arrays" in str(error) else "no array"
        raise LadderError(f"{path}: '{name}' holds {reason}, not numbers; {hint}") from error
    except Exception as error:  # of zipfile, zlib and NumPy, of many types
        reason = str(error) or type(error).__name__
        raise LadderError(
            f"{path}: '{name}' cannot be read ({reason}): the file is damaged; {hint}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise LadderError(f"{path}: '{name}' is no array; {hint}")
    if array.dtype.kind not in READABLE:
        what = WHAT.get(array.dtype.kind, f"{array.dtype}")
        raise LadderError(f"{path}: '{name}' holds {what}, not numbers; {hint}")
    return array
