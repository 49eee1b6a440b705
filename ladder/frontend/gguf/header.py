"""The header of a GGUF file, checked against the file's size before anything else is read."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ladder.errors import LadderError, one_line

MAGIC, VERSIONS = b"GGUF", (2, 3)
LEAST_KEY, LEAST_TENSOR = 13, 24  # bytes that one entry takes at least
ALIGNMENT = 32
STRING, ARRAY = 8, 9
# struct's letters for the other types of values
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
PLAIN = ("F32", "F16")  # others are decoded by gguf


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: its shape as torch has it, its type's name, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    type: str
    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class Header:
    """Metadata by key (arrays of texts as their lengths), and tensors by name."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]


@dataclass
class _Cursor:
    data: mmap.mmap
    at: int = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise EOFError("the header is longer than the file")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form: str, count: int = 1) -> tuple[Any, ...]:
        wanted = f"<{count}{form}"
        return struct.unpack(wanted, self.take(struct.calcsize(wanted)))

    def text(self) -> str:
        (length,) = self.numbers("Q")
        return self.take(length).decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array(*self.numbers("I"), *self.numbers("Q"))
        if kind not in NUMBERS:
            raise ValueError(f"metadata of the unknown type {kind}")
        return self.numbers(NUMBERS[kind])[0]

    def _array(self, kind: int, count: int) -> Any:
        if kind in NUMBERS:
            return list(self.numbers(NUMBERS[kind], count))
        if count > len(self.data):
            raise EOFError("an array is longer than the file")
        for _ in range(count):
            self.value(kind)
        return count


def read_header(path: Path) -> Header:
    """Read and check the header of one file."""
    with _mapped(path) as data:
        cursor = _Cursor(data)
        if cursor.take(4) != MAGIC:
            raise LadderError(f"{path}: not a GGUF file (it begins with {data[:4]!r})")
        version, tensors, keys = (*cursor.numbers("I"), *cursor.numbers("Q", 2))
        _check_counts(path, version, tensors, keys, len(data))
        metadata = {cursor.text(): cursor.value(*cursor.numbers("I")) for _ in range(keys)}
        entries = [_entry(cursor) for _ in range(tensors)]
        align = int(metadata.get("general.alignment", ALIGNMENT))
        start = -(-cursor.at // align) * align
        found: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in entries:
            if name in found:
                raise LadderError(f"{path}: {name} is in it twice; the file is damaged")
            found[name] = _tensor(path, name, shape, kind, start + offset)
            _check_place(found[name], len(data))
    return Header(path, metadata, found)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (EOFError, ValueError, struct.error) as error:
        raise LadderError(
            f"{path}: a truncated or damaged GGUF file ({one_line(error)}); fetch it again"
        ) from error


def _check_counts(path: Path, version: int, tensors: int, keys: int, size: int) -> None:
    if version not in VERSIONS:
        raise LadderError(
            f"{path}: GGUF version {version} has no rule (known: 2, 3, little-endian); "
            "convert the file again"
        )
    if tensors * LEAST_TENSOR + keys * LEAST_KEY > size:
        raise LadderError(
            f"{path}: truncated or damaged: its header announces {tensors} tensors and {keys} "
            f"keys, more than its {size} bytes can hold; fetch it again"
        )


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, number of the type, and offset."""
    name = cursor.text()
    (count,) = cursor.numbers("I")
    shape = tuple(reversed(cursor.numbers("Q", count)))
    return name, shape, *cursor.numbers("I"), *cursor.numbers("Q")


def _tensor(path: Path, name: str, shape: tuple[int, ...], kind: int, offset: int) -> TensorInfo:
    import gguf

    try:
        known = gguf.GGMLQuantizationType(kind)
    except ValueError as error:
        raise LadderError(
            f"{path}: {name} has type {kind} of ggml, which gguf does not know "
            "(36 is i2_s of bitnet.cpp); convert the file to another type"
        ) from error
    if known.name not in PLAIN and known not in gguf.quants._type_traits:
        raise LadderError(
            f"{path}: {name} has type {known.name}, which gguf cannot decode; "
            "convert the file to another type"
        )
    block, size = gguf.GGML_QUANT_SIZES[known]
    if shape and shape[-1] % block:
        raise LadderError(f"{path}: {name} has rows of {shape[-1]}, no multiple of {block}")
    return TensorInfo(name, shape, known.name, path, offset, prod(shape) // block * size)


def _check_place(tensor: TensorInfo, size: int) -> None:
    end = tensor.offset + tensor.size
    if end > size:
        raise LadderError(
            f"{tensor.path}: truncated: {tensor.name} ends at {end} of {size} bytes; fetch it again"
        )
