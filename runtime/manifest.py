"""The contents of a manifest as values; each field is checked when it is read.

Format 2 describes the states of a language model where format 1 named them, and calls ``options``
what was ``wish``; its report has ``skipped`` for ``left_alone``. Manifests of format 1 are read
as if they were of format 2. Manifests have a checksum of their own since it was introduced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ladder.errors import LadderError
from ladder.ir.states import CONTEXT, ROWS, StateSpec
from ladder.support.dtypes import item_size
from ladder.support.fields import field, list_field, nullable_field, refuse_repeated

FORMAT, OLDEST = 2, 1
# The functions of a language model, and the input of those that compute its logits.
DECODE, PREFILL, SHORT, LAST, ALL = "decode", "prefill", "short", "last", "all"
HIDDEN = "hidden"
KEYS = ("report", "origin")  # required keys that are read elsewhere
CHECKSUM = "checksum"
ALIGNMENT = 64  # bytes: where a tensor may begin in the file of weights
LARGEST = 1 << 50  # bytes of one array: beyond what a processor can address
HASH, FILE_NAME = re.compile(r"[0-9a-f]{64}"), re.compile(r"[^/\0]+")


@dataclass(frozen=True)
class Tensor:
    """The place of a tensor in the file of weights."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + prod(self.shape) * item_size(self.dtype)


@dataclass(frozen=True)
class Input:
    """A buffer that a function reads."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Function:
    """A compiled function; its arguments are the inputs, then the weights by name."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class LanguageModelFacts:
    """What generation needs."""

    context: int
    chunk: int
    vocabulary: int
    eos: tuple[int, ...]
    states: tuple[StateSpec, ...]
    chat_template: str | None = None
    # Texts by their names in templates, and what the model's authors advise.
    special_tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sampling: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The fields of a manifest that the runtime reads."""

    levels: tuple[str, ...]
    files: dict[str, str]
    functions: tuple[Function, ...]
    tensors: dict[str, Tensor]
    language_model: LanguageModelFacts | None

    @staticmethod
    def of(row: Any) -> Manifest:
        """Read a manifest of this format; an invalid field is refused by name."""
        for key in KEYS:
            field(row, key, dict)
        facts = nullable_field(row, "language_model", dict)
        tensors = field(row, "tensors", dict)
        found = Manifest(
            list_field(row, "levels", str),
            _files(field(row, "files", dict)),
            tuple(map(_function, field(row, "functions", list))),
            {name: _tensor(name, tensor) for name, tensor in tensors.items()},
            None if facts is None else _language_model(facts),
        )
        refuse_repeated("a function", [function.name for function in found.functions])
        _check_weights(found)
        _check_checksum(row)
        return found

    def check_places(self, size: int) -> None:
        """Refuse tensors that do not fill a file of ``size`` bytes one after another."""
        end = 0
        for name, tensor in sorted(self.tensors.items(), key=lambda item: item[1].offset):
            if tensor.offset != -(-end // ALIGNMENT) * ALIGNMENT:
                raise LadderError(
                    f"tensor '{name}' is at byte {tensor.offset}, but the one before it ends at "
                    f"byte {end}"
                )
            end = tensor.end
        if end != size:
            raise LadderError(f"its tensors end at byte {end} of {size} in the file of weights")


def checksum(row: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its checksum, whatever the order of its keys and its spaces."""
    rest = {key: value for key, value in row.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def manifest_text(row: dict[str, Any]) -> str:
    """The text of a manifest's file, with its checksum."""
    return json.dumps({**row, CHECKSUM: checksum(row)}, indent=1)


def _check_checksum(row: dict[str, Any]) -> None:
    if CHECKSUM in row and field(row, CHECKSUM, str) != checksum(row):
        raise LadderError("it was changed since it was written (its checksum differs)")


def upgraded(row: Any) -> dict[str, Any]:
    """A manifest of any known format, converted to this one; other formats are refused."""
    version = field(row, "format", int)
    if not OLDEST <= version <= FORMAT:
        raise LadderError(
            f"artifact format {version}, this Ladder reads formats {OLDEST} to {FORMAT}"
        )
    found: dict[str, Any] = row if version == FORMAT else _from_format_1(row)
    return found


def _from_format_1(row: dict[str, Any]) -> dict[str, Any]:
    new = {**row, "format": FORMAT, "options": row.get("wish")}
    new.pop("wish", None)
    new.pop(CHECKSUM, None)
    report = dict(field(row, "report", dict))
    report["skipped"] = report.pop("left_alone", [])
    new["report"] = report
    facts = nullable_field(row, "language_model", dict)
    if facts is not None:
        functions = map(_function, field(row, "functions", list))
        inputs = [entry for function in functions for entry in function.inputs]
        names = list_field(facts, "states", str)
        states = [state.to_json() for state in _rows_of(names, inputs)]
        new["language_model"] = {**facts, "states": states}
    return new


def _rows_of(names: Iterable[str], inputs: Iterable[Input]) -> Iterable[StateSpec]:
    """The states of format 1, which are all [1, heads, rows, head size]."""
    found = {entry.name: entry for entry in inputs}
    for name in names:
        if name not in found:
            raise LadderError(f"state '{name}' is not an input")
        shape = found[name].shape
        yield StateSpec(name, (*shape[:2], CONTEXT, *shape[3:]), found[name].dtype, ROWS, 2)


def _files(row: dict[str, Any]) -> dict[str, str]:
    """File name -> SHA-256. A name never leads out of the folder."""
    for name in row:
        digest = field(row, name, str)
        if not FILE_NAME.fullmatch(name) or name in (".", ".."):
            raise LadderError(f"'files' names {name!r:.40}, which is not the name of a file")
        if not HASH.fullmatch(digest):
            raise LadderError(f"the hash of file '{name}' is {digest!r:.40}, not a SHA-256")
    return row


def _function(row: Any) -> Function:
    found = Function(
        field(row, "name", str),
        tuple(map(_input, list_field(row, "inputs", list))),
        list_field(row, "outputs", str),
        list_field(row, "weights", str),
    )
    refuse_repeated(f"an input of '{found.name}'", [entry.name for entry in found.inputs])
    refuse_repeated(f"an output of '{found.name}'", found.outputs)
    return found


def _check_weights(manifest: Manifest) -> None:
    for function in manifest.functions:
        for name in function.weights:
            if name not in manifest.tensors:
                raise LadderError(f"function '{function.name}' takes '{name}', which is no tensor")


def _input(row: list[Any]) -> Input:
    if len(row) != 3:
        raise LadderError(f"an entry of 'inputs' is {row!r:.40}, not [name, type, shape]")
    named = dict(zip(("name", "type", "shape"), row, strict=True))
    name, dtype = field(named, "name", str), field(named, "type", str)
    shape = list_field(named, "shape", int)
    _check_array(f"input '{name}'", dtype, shape)
    return Input(name, dtype, shape)


def _tensor(name: str, row: Any) -> Tensor:
    dtype, shape = field(row, "dtype", str), list_field(row, "shape", int)
    offset = field(row, "offset", int)
    _check_array(f"tensor '{name}'", dtype, shape)
    return Tensor(dtype, shape, offset)


def _check_array(what: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Refuse an unknown type, and a shape that no memory holds."""
    try:
        size = prod(shape) * item_size(dtype)
    except LadderError as error:
        raise LadderError(f"{what}: {error}") from error
    if min(shape, default=1) < 0 or max(shape, default=0) > LARGEST or size > LARGEST:
        raise LadderError(f"{what}: the shape is {list(shape)!s:.60}, which no array can have")


def _language_model(row: Any) -> LanguageModelFacts:
    states = tuple(map(StateSpec.from_json, field(row, "states", list)))
    refuse_repeated("a state", [state.name for state in states])
    return LanguageModelFacts(
        _positive(row, "context"),
        _positive(row, "chunk"),
        _positive(row, "vocabulary"),
        list_field(row, "eos", int),
        states,
        nullable_field(row, "chat_template", str) if "chat_template" in row else None,
        _named(row, "special_tokens", str),
        _named(row, "sampling", float),
    )


def _named(row: Any, name: str, kind: type) -> dict[str, Any]:
    """An object whose values all have one type; older manifests have none."""
    values = field(row, name, dict) if name in row else {}
    return {key: field(values, key, kind) for key in values}


def _positive(row: Any, name: str) -> int:
    value: int = field(row, name, int)
    if value < 1:
        raise LadderError(f"'{name}' is {value}, not a positive number")
    return value
