"""Reads fields of JSON objects by name and type; a field of another type is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import UnionType
from typing import Any

from ladder.errors import LadderError

Kind = type | UnionType


def field(row: Any, name: str, kind: Kind) -> Any:
    """The field ``name`` of an object; a ``LadderError`` if it is missing or has another type."""
    if name not in _object(row):
        raise LadderError(f"'{name}' is missing")
    return _typed(row[name], f"'{name}'", kind)


def nullable_field(row: Any, name: str, kind: Kind) -> Any:
    """A field that may be null, which gives None."""
    return None if field(row, name, object) is None else field(row, name, kind)


def list_field(row: Any, name: str, kind: Kind) -> tuple[Any, ...]:
    """A list whose entries all have one type."""
    return tuple(_typed(entry, f"an entry of '{name}'", kind) for entry in field(row, name, list))


def refuse_unknown_fields(row: Any, known: Collection[str]) -> None:
    """Refuse unknown fields, since they may change the meaning of the others."""
    unknown = sorted(set(_object(row)) - set(known))
    if unknown:
        raise LadderError(f"unknown field '{unknown[0]}'; the fields are {', '.join(known)}")


def refuse_repeated(what: str, names: Iterable[str]) -> None:
    """Refuse a name that occurs twice; ``what`` says what has it."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LadderError(f"'{name:.40}' is the name of {what} twice")
        seen.add(name)


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise LadderError(f"{row!r:.40} is not an object")
    return row


def _typed(value: Any, name: str, kind: Kind) -> Any:
    """``value`` if it is a ``kind``: an integer counts as a float, but a boolean is no integer."""
    accepted = int | float if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise LadderError(f"{name} is {value!r:.40}, not {getattr(kind, '__name__', kind)}")
    return value
