"""The tensors of a Hugging Face folder as they are stored: which files hold them, and their dtypes.

Files are chosen as transformers chooses them: those that an index names, else ``model.safetensors``
(``pytorch_model.bin``), else whatever safetensors files there are. Others are not looked at.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.errors import LadderError, one_line

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError)
ORDER = (INDEXES[0], SINGLE[0], INDEXES[1], SINGLE[1])
# safetensors' names of dtypes -> torch's
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class RawTensor:
    """A tensor of a file: its name there, its shape, torch's name of its dtype, and its reader."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Any]


Raw = Mapping[str, RawTensor]


def raw_tensors(folder: Path) -> dict[str, RawTensor]:
    """The tensors of a folder by name; refuse an index that does not fit its files."""
    for name in ORDER:
        path = folder / name
        if path.exists():
            return _of_index(path) if name in INDEXES else dict(_tensors(path))
    return _of_all(folder)


def weight_files(folder: Path) -> list[Path]:
    """The files that the tensors are in, and the index that names them."""
    for name in ORDER:
        path = folder / name
        if path.exists():
            named = set(_weight_map(path).values()) if name in INDEXES else ()
            return [path, *(folder / file for file in sorted(named))]
    return sorted(folder.glob("*.safetensors"))


def _of_index(index: Path) -> dict[str, RawTensor]:
    """The tensors that an index names, each in the file that it says."""
    found: dict[str, RawTensor] = {}
    in_file: dict[str, dict[str, RawTensor]] = {}
    for name, file in _weight_map(index).items():
        path = index.parent / file
        if file not in in_file:
            if Path(file).name != file or not path.is_file():
                raise LadderError(f"{index}: names {file}, which is missing; fetch it")
            in_file[file] = dict(_tensors(path))
        if name not in in_file[file]:
            raise LadderError(f"{index}: says that {name} is in {file}, which does not hold it")
        found[name] = in_file[file][name]
    return found


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LadderError(f"{index}: not an index of weights: {one_line(error)}") from error


def _of_all(folder: Path) -> dict[str, RawTensor]:
    """The tensors of files with names of their own; none may be in two of them."""
    found: dict[str, RawTensor] = {}
    holders: dict[str, Path] = {}
    for path in weight_files(folder):
        for name, tensor in _tensors(path):
            if name in found:
                raise LadderError(
                    f"{folder}: {name} is in both {holders[name].name} and {path.name}, and there "
                    "is no index; remove the file that does not belong to the model"
                )
            found[name], holders[name] = tensor, path
    if not found:
        raise LadderError(f"{folder}: holds no weights (.safetensors or pytorch_model.bin)")
    return found


def _tensors(path: Path) -> Iterator[tuple[str, RawTensor]]:
    from safetensors import SafetensorError

    try:
        yield from _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except (SafetensorError, *DAMAGED) as error:
        raise LadderError(
            f"{path}: truncated or damaged ({one_line(error)}); fetch it again"
        ) from error


def _safetensors(path: Path) -> Iterator[tuple[str, RawTensor]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        for name in file.keys():
            part = file.get_slice(name)
            kind = DTYPES.get(part.get_dtype(), part.get_dtype())
            yield name, RawTensor(name, tuple(part.get_shape()), kind, _reader(path, name))


def _reader(path: Path, name: str) -> Callable[[], Any]:
    from safetensors import safe_open

    def read() -> Any:
        with safe_open(path, "pt") as file:
            return file.get_tensor(name)

    return read


def _pickled(path: Path) -> Iterator[tuple[str, RawTensor]]:
    """Of a file of torch.save, which may hold nothing but tensors."""
    for name, tensor in _state(path).items():
        kind = str(tensor.dtype).removeprefix("torch.")
        yield name, RawTensor(name, tuple(tensor.shape), kind, lambda t=tensor: t)  # type: ignore[misc]


def _state(path: Path) -> dict[str, Any]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the format before torch 1.6 cannot be mapped
        found = torch.load(path, map_location="cpu", weights_only=True)
    return {str(name): value for name, value in found.items() if torch.is_tensor(value)}
