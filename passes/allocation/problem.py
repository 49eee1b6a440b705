"""Allocation as plain data: parts that take one type each, and what each type costs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Picks = tuple[int, ...]  # for each part the index of its option
AXES = ("loss", "bits", "seconds", "prefill")


@dataclass(frozen=True)
class Option:
    """What one type costs a part.

    ``loss`` is what the output loses (KL in nats a token, or MSE), ``bits`` what is stored with
    scales, ``seconds`` the products at M=1 and ``prefill`` those at the prefill chunk.
    """

    type: str
    loss: float
    bits: int
    seconds: float = 0.0
    prefill: float = 0.0

    def along(self, axis: str) -> float:
        """The value on one of ``AXES``."""
        return {
            "loss": self.loss,
            "bits": float(self.bits),
            "seconds": self.seconds,
            "prefill": self.prefill,
        }[axis]


@dataclass(frozen=True)
class Part:
    """Sites that share one weight, so one type. With one option there is nothing to choose."""

    names: tuple[str, ...]
    role: str
    parameters: int
    options: tuple[Option, ...]
    why_fixed: str = ""


@dataclass(frozen=True)
class Totals:
    """A plan on every axis, what does not depend on the plan included."""

    loss: float
    bytes: float
    bpw: float
    seconds: float
    prefill: float


@dataclass(frozen=True)
class Problem:
    """The parts of a model, and what is spent beside them.

    ``rest_bytes`` are constants that are no sites' weights, ``rest_seconds`` what a decoded token
    takes outside of the products. ``timed``: the seconds mean something.
    """

    parts: tuple[Part, ...]
    types: tuple[str, ...]
    metric: str = "kl"
    timed: bool = False
    rest_bytes: float = 0.0
    rest_seconds: float = 0.0

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    def totals(self, picks: Picks) -> Totals:
        """The sums along every axis."""
        chosen = [part.options[pick] for part, pick in zip(self.parts, picks, strict=True)]
        bits = sum(option.bits for option in chosen)
        return Totals(
            loss=sum(option.loss for option in chosen),
            bytes=self.rest_bytes + bits / 8,
            bpw=bits / max(self.parameters, 1),
            seconds=self.rest_seconds + sum(option.seconds for option in chosen),
            prefill=sum(option.prefill for option in chosen),
        )

    def uniform(self, type: str) -> Picks:
        """One type for every part that is free to take it."""
        return tuple(_index(part.options, type) for part in self.parts)

    def least(self, axis: str) -> float:
        """The least sum along an axis, the rest not counted."""
        return sum(min(o.along(axis) for o in part.options) for part in self.parts)


def _index(options: Sequence[Option], type: str) -> int:
    return next((i for i, option in enumerate(options) if option.type == type), 0)
