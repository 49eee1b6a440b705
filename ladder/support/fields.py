"""Fields of JSON objects, read by name and type: what does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Collection
from types import UnionType
from typing import Any

from ladder.errors import LadderError

Kind = type | UnionType


def field(row: Any, name: str, kind: Kind) -> Any:
    """The field ``name`` of an object; a ``LadderError`` if it is missing or of another type."""
    if name not in _object(row):
        raise LadderError(f"'{name}' is missing")
    return _typed(row[name], f"'{name}'", kind)


def nullable_field(row: Any, name: str, kind: Kind) -> Any:
    """The same for a field that may be null: then it is None."""
    return None if field(row, name, object) is None else field(row, name, kind)


def list_field(row: Any, name: str, kind: Kind) -> tuple[Any, ...]:
    """A list whose entries are all of one type."""
    return tuple(_typed(entry, f"an entry of '{name}'", kind) for entry in field(row, name, list))


def refuse_unknown_fields(row: Any, known: Collection[str]) -> None:
    """A field that this version does not know may change what the others mean."""
    unknown = sorted(set(_object(row)) - set(known))
    if unknown:
        raise LadderError(f"unknown field '{unknown[0]}'; the fields are {', '.join(known)}")


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise LadderError(f"{row!r:.40} is not an object")
    return row


def _typed(value: Any, name: str, kind: Kind) -> Any:
    """``value``, if it is a ``kind``: an integer counts as a float, a boolean as no integer."""
    accepted = int | float if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise LadderError(f"{name} is {value!r:.40}, not {getattr(kind, '__name__', kind)}")
    return value
