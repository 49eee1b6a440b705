"""The states of a language model: the values that it carries from one call to the next.

A state is an input of the graph, ``state.NAME``, and an output, ``state.NAME.next``. Its kind says
how a call changes it:

rows        the call writes the rows of its tokens along ``axis``, from ``position`` on, in place;
            rows from ``position`` on are not read (keys and values of attention)
window      the same, but only the last rows are kept: they wrap around
recurrent   the output replaces the input (convolution tails, state-space states)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.support.dtypes import item_size
from ladder.support.fields import field, list_field, nullable_field, refuse_unknown_fields

STATE_PREFIX = "state."
CONTEXT = "context"  # the dimension that has a row for each token of the text
ROWS, WINDOW, RECURRENT = "rows", "window", "recurrent"
KINDS = (ROWS, WINDOW, RECURRENT)
RESET_KEY = "ladder.reset"  # metadata of a graph's input: reset values that are not 0, as JSON


def next_name(name: str) -> str:
    """The output that holds the state ``name`` after a call."""
    return f"{name}.next"


@dataclass(frozen=True)
class StateSpec:
    """A state of a language model.

    ``axis`` is the axis of the rows, for the kinds ``rows`` and ``window``. ``shape`` has a name
    there if the number of rows is chosen later. ``reset`` is the value of a recurrent state before
    the first token, or a value for each index of axis 1. Other kinds have none, since the position
    says which of their rows are read. ``spare`` is the number of rows of a window beyond those that
    a token reads: a call may write as many more, and none of them is missed.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    kind: str
    axis: int | None = None
    reset: float | tuple[float, ...] | None = None
    spare: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise self._invalid(f"unknown kind '{self.kind}'; the kinds are {', '.join(KINDS)}")
        if any(isinstance(size, int) and size < 1 for size in self.shape):
            raise self._invalid(f"its shape is {list(self.shape)}: sizes must be positive")
        if self.kind == RECURRENT and (self.axis is not None or self.reset is None):
            raise self._invalid("a recurrent state must have a reset value and no axis")
        if self.kind != RECURRENT and (self.axis is None or self.reset is not None):
            raise self._invalid(f"a state of kind {self.kind} must have an axis and no reset value")
        if self.axis is not None and not 0 <= self.axis < len(self.shape):
            raise self._invalid(f"axis {self.axis} is not one of its {len(self.shape)}")
        if isinstance(self.reset, tuple) and self.shape[1:2] != (len(self.reset),):
            raise self._invalid(f"{len(self.reset)} reset values do not fit axis 1 of its shape")
        self._check_dtype()

    def _check_dtype(self) -> None:
        try:
            item_size(self.dtype)
        except LadderError as error:
            raise self._invalid(str(error)) from error

    def _invalid(self, reason: str) -> LadderError:
        return LadderError(f"state '{self.name}': {reason}")

    @property
    def next(self) -> str:
        """The output that holds the state after a call."""
        return next_name(self.name)

    def takes_padding(self, tokens: int) -> bool:
        """Whether a call of ``tokens``, some of them padding, is harmless.

        It is if later tokens overwrite the padding's rows, and nobody misses what was there.
        """
        return self.kind == ROWS or (self.kind == WINDOW and self.spare >= tokens)

    def bound(self, rows: int) -> tuple[int, ...]:
        """The shape, with ``rows`` for the dimension that has a name."""
        return tuple(size if isinstance(size, int) else rows for size in self.shape)

    def fits(self, array: np.ndarray) -> bool:
        """Whether ``array`` can hold the state; a dimension with a name may have any size."""
        wanted = zip(self.shape, array.shape, strict=False)
        same = all(isinstance(size, str) or size == actual for size, actual in wanted)
        return same and array.ndim == len(self.shape) and array.dtype == np.dtype(self.dtype)

    def initial(self, rows: int) -> np.ndarray:
        """The state before the first token, with space for ``rows``."""
        state = np.empty(self.bound(rows), np.dtype(self.dtype))
        self.clear(state)
        return state

    def clear(self, state: np.ndarray) -> None:
        """Set an array to the state before the first token."""
        values = np.array(self.reset or 0, state.dtype)
        state[...] = values.reshape(-1, *[1] * (state.ndim - 2)) if values.ndim else values

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}

    @staticmethod
    def from_json(row: Any) -> StateSpec:
        """Undo ``to_json``; an unknown or missing field is refused by name."""
        name = field(row, "name", str)
        try:
            rest = _rest_of(row)
        except LadderError as error:
            raise LadderError(f"state '{name}': {error}") from error
        return StateSpec(name, **rest)


def _rest_of(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a state's JSON object, without the name."""
    refuse_unknown_fields(row, [f.name for f in fields(StateSpec)])
    return {
        "shape": list_field(row, "shape", int | str),
        "dtype": field(row, "dtype", str),
        "kind": field(row, "kind", str),
        "axis": nullable_field(row, "axis", int),
        "reset": _reset_of(row),
        "spare": field(row, "spare", int) if "spare" in row else 0,
    }


def _reset_of(row: dict[str, Any]) -> float | tuple[float, ...] | None:
    if isinstance(row.get("reset"), list):
        return list_field(row, "reset", float)
    value: float | None = nullable_field(row, "reset", float)
    return value
