"""NPZ files: arrays of numbers that are whole, or one line that says why not."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unprivileged import give, run_unprivileged

from ladder.errors import LadderError
from ladder.support.arrays import read_npz

X = np.arange(4000, dtype=np.float32).reshape(40, 100)
HINT = "do this"


def saved(path: Path, **arrays: Any) -> bytes:
    np.savez(path, **arrays)
    return path.read_bytes()


def member(content: bytes, name: str = "x.npy", compress: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


REFUSED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty file": (lambda p: b"", "not an NPZ file"),
    "text": (lambda p: b"x = 1", "not an NPZ file"),
    "truncated": (lambda p: saved(p, x=X)[:5000], "not an NPZ file"),
    "begins late": (lambda p: saved(p, x=X)[100:], "not an NPZ file"),
    "a byte changed": (lambda p: flipped(saved(p, x=X), 9000), "'x' cannot be read .Bad CRC"),
    "packed, a byte changed": (
        lambda p: flipped(member(npy(X), compress=zipfile.ZIP_DEFLATED), 200),
        "'x' cannot be read",
    ),
    "one array": (lambda p: npy(X), "holds one array without a name"),
    "no array": (lambda p: member(b"text", "x.txt"), "'x.txt' is no array"),
    "empty array file": (lambda p: member(b""), "'x.*' is no array"),
    "header alone": (lambda p: member(npy(X)[:128]), "'x' (cannot be read|holds no array)"),
    "no header": (lambda p: member(npy(X)[:20]), "'x' (cannot be read|holds no array)"),
    "terabytes": (
        lambda p: member(npy(X).replace(b"(40, 100), }     ", b"(1<<40, 1024), }"[:17])),
        "'x' (cannot be read|holds no array)",
    ),
    "objects": (lambda p: saved(p, x=np.array([1, "a"], object)), "'x' holds Python objects"),
    "complex": (lambda p: saved(p, x=X.astype(complex)), "'x' holds complex numbers"),
    "text array": (lambda p: saved(p, x=np.array(["a", "b"])), "'x' holds text"),
    "bytes": (lambda p: saved(p, x=np.array([b"a", b"b"])), "'x' holds text"),
    "records": (lambda p: saved(p, x=np.zeros(3, [("a", "f4")])), "'x' holds records"),
    "dates": (lambda p: saved(p, x=np.zeros(3, "M8[s]")), r"'x' holds datetime64\[s\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    path = tmp_path / "x.npz"
    path.write_bytes(make(path))
    with pytest.raises(LadderError) as error:
        read_npz(path, HINT)
    assert re.search(rf"x\.npz: .*{message}.*; do this", str(error.value)), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64", ">f4"])
def test_numbers_are_read(dtype: str, tmp_path: Path) -> None:
    wanted = {"x": X.astype(dtype), "y": np.zeros(0, dtype), "z": np.array(1, dtype)}
    saved(tmp_path / "x.npz", **wanted)
    found = read_npz(tmp_path / "x.npz", HINT)
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_file_without_arrays(tmp_path: Path) -> None:
    """Who reads it says what is missing."""
    saved(tmp_path / "x.npz")
    assert read_npz(tmp_path / "x.npz", HINT) == {}


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="none: no such file; do this"):
        read_npz(tmp_path / "none", HINT)
    with pytest.raises(LadderError, match="is a folder, not an NPZ file; do this"):
        read_npz(tmp_path, HINT)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    saved(folder / "x.npz", x=X)
    give(folder)
    (folder / "x.npz").chmod(0)
    imports = "import sys\nfrom pathlib import Path\nfrom ladder.support.arrays import read_npz\n"
    done = run_unprivileged(imports, "read_npz(Path(sys.argv[1]), 'do this')", folder / "x.npz")
    assert "x.npz: cannot be read (Permission denied); do this" in done.stderr, done
