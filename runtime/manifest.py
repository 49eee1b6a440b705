"""The contents of a manifest as values; each field is checked when it is read.

Format 2 describes the states of a language model where format 1 named them, and calls ``options``
what was ``wish``; its report has ``skipped`` for ``left_alone``. Manifests of format 1 are read
as if they were of format 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ladder.errors import LadderError
from ladder.ir.states import CONTEXT, ROWS, StateSpec
from ladder.support.fields import field, list_field, nullable_field

FORMAT, OLDEST = 2, 1
# The functions of a language model, and the input of those that compute its logits.
DECODE, PREFILL, LAST, ALL = "decode", "prefill", "last", "all"
HIDDEN = "hidden"
KEYS = ("report", "origin")  # required keys that are read elsewhere


@dataclass(frozen=True)
class Tensor:
    """The place of a tensor in the file of weights."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


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
        return Manifest(
            list_field(row, "levels", str),
            field(row, "files", dict),
            tuple(map(_function, field(row, "functions", list))),
            {name: _tensor(tensor) for name, tensor in field(row, "tensors", dict).items()},
            None if facts is None else _language_model(facts),
        )


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


def _function(row: Any) -> Function:
    return Function(
        field(row, "name", str),
        tuple(map(_input, list_field(row, "inputs", list))),
        list_field(row, "outputs", str),
        list_field(row, "weights", str),
    )


def _input(row: list[Any]) -> Input:
    if len(row) != 3:
        raise LadderError(f"an entry of 'inputs' is {row}, not [name, type, shape]")
    named = dict(zip(("name", "type", "shape"), row, strict=True))
    return Input(
        field(named, "name", str), field(named, "type", str), list_field(named, "shape", int)
    )


def _tensor(row: Any) -> Tensor:
    return Tensor(
        field(row, "dtype", str), list_field(row, "shape", int), field(row, "offset", int)
    )


def _language_model(row: Any) -> LanguageModelFacts:
    return LanguageModelFacts(
        field(row, "context", int),
        field(row, "chunk", int),
        field(row, "vocabulary", int),
        list_field(row, "eos", int),
        tuple(map(StateSpec.from_json, field(row, "states", list))),
    )
