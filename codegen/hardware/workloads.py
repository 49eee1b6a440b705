"""The numbers that a unit computes while its energy is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ladder.codegen.hardware.streams import Array, Stream, stream_of
from ladder.errors import LadderError
from ladder.hardware.tensor_cores import INT8, TensorCore
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32, quantize_activation
from ladder.passes.rounding.matrix import mse

CYCLES = 96  # of all products together; more change the energy by a few percent
BITS = (1, 2, 3, 4, 8, 16)  # of weights
GAUSSIAN = "Gaussian data"


@dataclass(frozen=True)
class Product:
    """Activations [M, K] and weights [N, K] of one layer."""

    x: F32
    weight: F32


@dataclass(frozen=True)
class Workload:
    """Products, and where they come from."""

    name: str
    products: Sequence[Product]

    def stream(self, core: TensorCore, bits: int) -> Stream:
        """All products one after the other, each as deep as the cycles allow."""
        check_bits(core, bits)
        cycles = core.cycles(bits) * len(self.products)
        depth = core.k * max(1, CYCLES // cycles)
        parts = [_stream(core, product, bits, depth) for product in self.products]
        fields = ("x", "weight", "start", "plane")
        return Stream(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def gaussian(seed: int = 0) -> Workload:
    """Four products of normally distributed numbers."""
    random = np.random.default_rng(seed)
    shapes = ((64, 1024), (512, 1024))
    products = [
        Product(*(random.normal(size=s).astype(np.float32) for s in shapes)) for _ in range(4)
    ]
    return Workload(GAUSSIAN, products)


def check_bits(core: TensorCore, bits: int) -> None:
    """Refuse weights that the unit cannot read.

    Raises:
        LadderError: with the bits that it can.
    """
    known = widths(core)
    if bits not in known:
        raise LadderError(
            f"{core.name}: weights have {', '.join(map(str, known))} bits, not {bits}"
        )


def widths(core: TensorCore) -> tuple[int, ...]:
    """The bits of weights that a unit can read."""
    most = 4 if core.serial else core.activation.bits
    return tuple(bits for bits in BITS if bits <= most)


def usual_widths(core: TensorCore) -> tuple[int, ...]:
    """Those of a table of results: 1, 2 and 4, and what a unit that multiplies is made for."""
    return (1, 2, 4) if core.serial else (1, 2, 4, core.activation.bits)


def _stream(core: TensorCore, product: Product, bits: int, depth: int) -> Stream:
    """The stream of the first rows of a product. Small layers are repeated to fill the unit."""
    x = np.resize(product.x, (core.m, product.x.shape[1]))
    weight = np.resize(product.weight, (core.n, product.weight.shape[1]))
    depth = min(depth, x.shape[1] // core.k * core.k)
    x, weight = x[:, :depth], weight[:, :depth]
    return stream_of(core, activations(core, x), codes_of(weight, bits), bits)


def activations(core: TensorCore, x: F32) -> Array:
    """``x`` [M, K] as the unit reads it: rounded floats, or int8 with one scale for each row."""
    if core.activation.is_float:
        kind = np.float16 if core.activation.bits == 16 else ml_dtypes.float8_e4m3fn
        return x.astype(kind).astype(np.float64)
    q, _, _ = quantize_activation(x, x.shape[1], granularity="token")
    assert np.abs(q).max(initial=0) <= INT8
    return q.reshape(x.shape).astype(np.int64)


def codes_of(weight: F32, bits: int) -> Array:
    """Unsigned codes [N, K]: signs, or rounded with the best scale for each row."""
    if bits == 16:
        return weight.astype(np.float64)  # float16 weights have no codes
    if bits == 1:
        return (weight > 0).astype(np.uint8)
    rounded = mse(weight, DType.parse(f"int{bits}:row")).codes
    return (rounded.astype(np.int64) + (1 << bits - 1)).astype(np.uint8)
