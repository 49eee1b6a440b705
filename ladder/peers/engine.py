"""The interface of an engine for the harness: its low-bit forms, weights, and products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

EVERY = 7  # the error is computed on every seventh out feature, so in every lane and tile
TERNARY, DENSE = "ternary", "dense"
LIMITS = "limits"  # the engine that measures the limits of the machine
CLASSES = ("1", TERNARY, "2", "3", "4", "8", DENSE)  # of bits: forms of one class are compared


@dataclass(frozen=True)
class Kind:
    """One low-bit form of an engine: its type, its class of bits, and its scheme."""

    type: str
    bits: str
    scheme: str


class Steps(ABC):
    """Work that is timed step by step; ``steps`` of them read all memory once."""

    steps: int
    per_step: int = 1  # products
    work: float = 1  # in the unit of the measurement, if that is not a product

    @abstractmethod
    def run(self, m: int, step: int) -> None:
        """Run one step."""

    @abstractmethod
    def scheme(self, m: int) -> str:
        """How M tokens are computed, if the kind does not say it already; else empty."""


class Weight(Steps):
    """Copies of one weight [N, K] in memory, and the products with them.

    A step computes ``per_step`` products, each with a copy of its own, from M float activations
    to the outputs in memory.
    """

    stored_bytes: int  # of one copy, scales included

    @abstractmethod
    def output(self, m: int) -> F32:
        """[M, N]: the product with the copy that ``dequantized`` describes."""

    @abstractmethod
    def dequantized(self) -> F64:
        """Every ``EVERY``-th out feature as the engine stores it: [ceil(N / 7), K]."""

    def scheme(self, m: int) -> str:
        return ""


class Engine(ABC):
    """One engine in a process of its own, with the threads it was started with."""

    name: str
    package: str  # the name for pip

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @abstractmethod
    def version(self) -> str:
        """The engine's version. This imports it; an ImportError means that it is missing."""

    @abstractmethod
    def kinds(self, n: int, k: int) -> list[Kind]:
        """The forms that it has for an [N, K] weight."""

    @abstractmethod
    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Steps:
        """Weights of ``kind``: copies that take ``rotate`` bytes, and products for each M."""

    def isa(self) -> str:
        """The instruction sets that it reports to use; empty if it does not report them."""
        return ""

    def notes(self) -> list[str]:
        """Notes for a reader of its rows."""
        return []


def activation(m: int, k: int) -> F32:
    """The float activations of every engine, [M, K]."""
    return np.random.default_rng(1).standard_normal((m, k), np.float32)


def random_codes(n: int, k: int, bits: int) -> npt.NDArray[np.uint8]:
    """Uniform unsigned codes [N, K]."""
    codes: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 1 << bits, (n, k), np.uint8)
    return codes


def random_scales(*shape: int) -> F32:
    """Scales near 1 / 64."""
    return (np.random.default_rng(2).random(shape, np.float32) + np.float32(0.5)) / np.float32(64)


def group_for(k: int) -> int:
    """The largest group size up to 128 that divides K; 0 if not even 32 does."""
    return next((g for g in (128, 64, 32) if k % g == 0), 0)


def packed(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Codes [N, K], packed with the first code of a byte in its lowest bits: [N, K * bits / 8]."""
    per = 8 // bits
    out = np.zeros((len(codes), codes.shape[1] // per), np.uint8)
    for i in range(per):
        out |= codes[:, i::per] << np.uint8(bits * i)
    return out


def grouped(codes: npt.NDArray[np.generic], zero: float, scale: npt.NDArray[np.generic]) -> F64:
    """(code - zero) * scale with scales [R, K / group], in float64."""
    rows, k = codes.shape
    parts = codes.astype(np.float64).reshape(rows, scale.shape[1], -1) - zero
    return (parts * scale.astype(np.float64)[:, :, None]).reshape(rows, k)


def relative_errors(weight: Weight, tokens: Sequence[int], k: int) -> dict[int, float]:
    """|y - x w| / |x w| for each M, over the rows of ``dequantized``, in float64."""
    rows, errors = weight.dequantized().T, {}
    for m in tokens:
        exact = activation(m, k).astype(np.float64) @ rows
        got = weight.output(m)[:, ::EVERY].astype(np.float64)
        errors[m] = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    return errors
