"""The result of a command: a dataclass that is read by attribute or by name, or saved as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

RENAMED = {"left_alone": "skipped"}


class Result(Mapping[str, Any]):
    """Base of reports: ``report.bits_per_weight`` and ``report["bits_per_weight"]`` are equal."""

    def __getitem__(self, name: str) -> Any:
        if name in RENAMED:
            raise KeyError(f"{name} is now called {RENAMED[name]}")
        if name not in self._names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        """The names of the fields that have a value, so that ``in`` says what a report has."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        return tuple(f.name for f in fields if getattr(self, f.name) is not MISSING)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dict(self)


class _Missing:
    """The value of a field that a report does not have."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
