"""The states of a running language model: their buffers, and the number of tokens they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.ir.states import RECURRENT, ROWS, StateSpec


@dataclass(frozen=True)
class Snapshot:
    """A copy of the states after ``position`` tokens."""

    position: int
    held: Mapping[str, np.ndarray]


class States:
    """Buffers by state name, which stay in place, and the number of tokens they hold.

    Compiled functions write ``rows`` and ``window`` states in place, and most ``recurrent`` ones;
    ``advance`` copies the outputs that replace the others.
    """

    def __init__(self, specs: Iterable[StateSpec], buffers: Mapping[str, np.ndarray]) -> None:
        self.specs = tuple(specs)
        self.buffers = {spec.name: _buffer(spec, buffers) for spec in self.specs}
        self.reset()

    @property
    def position(self) -> int:
        """The number of tokens that the states hold."""
        return self._position

    def take_padding(self, tokens: int) -> bool:
        """Whether a call of ``tokens`` may include padding after the text."""
        return all(spec.takes_padding(tokens) for spec in self.specs)

    @property
    def bounded(self) -> bool:
        """Whether a text has an end: the masks of attention are known up to there."""
        return any(spec.kind != RECURRENT for spec in self.specs)

    @property
    def rewindable(self) -> bool:
        """Whether earlier states still exist: rows do, until they are overwritten."""
        return all(spec.kind == ROWS for spec in self.specs)

    def reset(self) -> None:
        """Forget the text so far."""
        self._position = 0
        for spec in self.specs:
            if spec.kind == RECURRENT:
                spec.clear(self.buffers[spec.name])

    def advance(self, tokens: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Record ``tokens`` more after a call, and copy states that it did not change in place."""
        for spec in self.specs:
            if spec.kind != RECURRENT:
                continue
            held, after = self.buffers[spec.name], outputs[spec.next]
            if not np.may_share_memory(held, after):
                held[...] = after
        self._position += tokens

    def rewind(self, position: int) -> None:
        """Forget the tokens from ``position`` on; only rows can; other kinds need a snapshot."""
        if not 0 <= position <= self._position:
            raise LadderError(f"cannot rewind to {position}: {self._position} tokens are held")
        if position < self._position and not self.rewindable:
            kept = next(spec for spec in self.specs if spec.kind != ROWS)
            raise LadderError(
                f"state '{kept.name}' is {kept.kind} and holds no earlier text: "
                "take a snapshot() before, and restore() it"
            )
        self._position = position

    def snapshot(self) -> Snapshot:
        """A copy of everything that the next tokens depend on."""
        held = {spec.name: self._held(spec, self._position).copy() for spec in self.specs}
        return Snapshot(self._position, held)

    def restore(self, snapshot: Snapshot) -> None:
        """Return to the states at ``snapshot``, whatever was fed since."""
        for spec in self.specs:
            self._held(spec, snapshot.position)[...] = snapshot.held[spec.name]
        self._position = snapshot.position

    def _held(self, spec: StateSpec, position: int) -> np.ndarray:
        """The part of a buffer that is in use after ``position`` tokens."""
        buffer = self.buffers[spec.name]
        if spec.kind != ROWS:
            return buffer
        assert spec.axis is not None
        return buffer[(slice(None),) * spec.axis + (slice(position),)]


def _buffer(spec: StateSpec, buffers: Mapping[str, np.ndarray]) -> np.ndarray:
    """The buffer of a state; an artifact whose functions take another one is refused."""
    found = buffers.get(spec.name)
    if found is None or not spec.fits(found):
        takes = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise LadderError(
            f"state '{spec.name}' is {spec.dtype} {list(spec.shape)}, but its function takes "
            f"{takes}; compile the model again"
        )
    return found
