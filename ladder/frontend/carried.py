"""What a model carries from call to call, while it is run once or traced.

Who asks for a state defines it: the first run has no states, and makes each as it is asked for. The
trace has them as inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.onnx.ops import symbolic, symbolic_multi_out

from ladder.errors import LadderError
from ladder.ir import dialect
from ladder.ir.states import CONTEXT, RECURRENT, ROWS, STATE_PREFIX, StateSpec

EXAMPLE_ROWS = 16  # of the states that a model is traced with
OVERLOAD = "overload"  # attribute of a traced node of the dialect, until it is its overload


@dataclass(frozen=True)
class Convolution:
    """A convolution of which the cache knows ``inputs`` [1, C, S] and the ``state`` before them."""

    name: str
    state: Any
    inputs: Any
    all_inputs: Any


class Carried:
    """States by their names without the prefix, such as ``3.key``, in the order of first use."""

    def __init__(
        self,
        model: Any,
        position: Any,
        given: Mapping[str, Any] | None = None,
        specs: Sequence[StateSpec] = (),
    ) -> None:
        self.model = model
        self.position = position  # of the first token, [1]
        self.specs = {spec.name.removeprefix(STATE_PREFIX): spec for spec in specs}
        self.tensors = dict(given or {})
        # What the next scan or convolution is about, which models tell the cache, not the function:
        # the state's name, and of how many of its heads the scans have begun.
        self.scan, self.scanned = "", 0
        self.convolution: Convolution | None = None

    @property
    def context(self) -> Any:
        """The rows that keys and values have."""
        rows = (name for name, spec in self.specs.items() if spec.kind == ROWS)
        first = next(rows, None)
        return EXAMPLE_ROWS if first is None else self.tensors[first].shape[2]

    def layer_of(self, module: Any) -> int:
        """The number of the layer that a module of the model is in."""
        name = next(name for name, part in self.model.named_modules() if part is module)
        return next(int(part) for part in name.split(".") if part.isdigit())

    def write_rows(self, name: str, rows: Any) -> Any:
        """Put ``rows`` [1, heads, tokens, size] into a state in place; returns all of its rows."""
        heads, size = rows.shape[1], rows.shape[3]
        spec = StateSpec(STATE_PREFIX + name, (1, heads, CONTEXT, size), "float32", ROWS, 2)
        old = self._held(name, spec)
        self.tensors[name] = symbolic(
            "TensorScatter",
            [old, rows, self.position],
            {"axis": 2},
            dtype=old.dtype,
            shape=old.shape,
            version=24,
        )
        return self.tensors[name]

    def get(self, name: str) -> Any | None:
        """A recurrent state, None if nobody has asked for it with a shape yet."""
        return self.tensors.get(name)

    def recurrent(
        self, name: str, shape: Sequence[int], reset: float | tuple[float, ...] = 0.0
    ) -> Any:
        """A recurrent state; ``reset`` is its value before the first token."""
        spec = StateSpec(STATE_PREFIX + name, tuple(shape), "float32", RECURRENT, reset=reset)
        return self._held(name, spec)

    def put(self, name: str, after: Any) -> None:
        """Replace a recurrent state."""
        self.recurrent(name, after.shape)
        self.tensors[name] = after

    def _held(self, name: str, spec: StateSpec) -> Any:
        known = self.specs.setdefault(name, spec)
        if known.shape != spec.shape:
            shapes = f"{list(known.shape)} and {list(spec.shape)}"
            raise LadderError(
                f"the state {name} has two shapes, {shapes}; the model is unsupported"
            )
        if name not in self.tensors:
            self.tensors[name] = torch.from_numpy(known.initial(EXAMPLE_ROWS))
        return self.tensors[name]


_NOW: ContextVar[Carried] = ContextVar("carried")


@contextmanager
def carrying(carried: Carried) -> Iterator[None]:
    """Within the block, ``now`` is ``carried``."""
    token = _NOW.set(carried)
    try:
        yield
    finally:
        _NOW.reset(token)


def now() -> Carried:
    """The states of the call that is being run."""
    return _NOW.get()


def operator(
    op: str,
    overload: str,
    operands: Sequence[Any],
    shapes: Sequence[Sequence[Any]],
    **attributes: int | float,
) -> tuple[Any, Any]:
    """A recurrent operator of the dialect, whose outputs have ``shapes``."""
    y, after = symbolic_multi_out(
        f"{dialect.DOMAIN}::{op}",
        operands,
        {**attributes, OVERLOAD: overload},
        dtypes=[torch.float32] * len(shapes),
        shapes=shapes,
        version=dialect.VERSION,
    )
    return y, after
