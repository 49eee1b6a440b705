"""The vector expressions that kernels share, with one name for every instruction they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm.script import tirx as T

Expr = Any  # a TVM expression


def llvm(name: str, dtype: str, *operands: Expr) -> Expr:
    """A call of a pure LLVM intrinsic."""
    return T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id(f"llvm.{name}"), *operands, dtype=dtype
    )


def unfused(product: Expr, dtype: str = "float32x16") -> Expr:
    """A product that the compiler must round before it is added: LLVM would contract it to FMA."""
    return llvm("arithmetic.fence", dtype, product)


def plus_product(a: Expr, b: Expr, c: Expr, width: int = 16) -> Expr:
    """a + b * c of floats, both rounded: the same bits on every processor."""
    return a + unfused(b * c, typed("float32", width))


def fused_product(a: Expr, b: Expr, c: Expr, width: int = 16) -> Expr:
    """a + b * c of floats, rounded once: the same bits on every processor that has FMA."""
    return llvm("fma", typed("float32", width), b, c, a)


def kept(x: Expr, dtype: str = "int32x16") -> Expr:
    """Integers that LLVM must compute as written, without merging them into later code."""
    as_float = f"float32x{dtype.rpartition('x')[2]}"
    return T.reinterpret(unfused(T.reinterpret(x, dtype=as_float), as_float), dtype=dtype)


def splat(value: Expr, lanes: int) -> Expr:
    return T.broadcast(value, lanes)


def typed(name: str, width: int) -> str:
    """The type of ``width`` lanes of ``name``; a scalar for one."""
    return f"{name}x{width}" if width > 1 else name


def const(value: Expr, width: int) -> Expr:
    """``value`` in each of ``width`` lanes; ``value`` itself for one."""
    return splat(value, width) if width > 1 else value


def lanes(start: Expr) -> Expr:
    """The index of 16 neighbours: one AVX-512 vector of dwords."""
    return T.ramp(start, 1, 16)


def lanes_from(start: Expr, width: int) -> Expr:
    """The index of ``width`` neighbours; of one element for a width of 1."""
    return T.ramp(start, 1, width) if width > 1 else start


def shuffle(vectors: list[Expr], order: list[int]) -> Expr:
    """Lanes ``order`` of the concatenated ``vectors``."""
    return tvm.tirx.Shuffle(vectors, [T.int32(i) for i in order])


def repeated(vector: Expr, width: int, times: int) -> Expr:
    """A vector of ``width`` lanes, repeated ``times`` times."""
    return shuffle([vector] * times, [*range(width * times)])


def width_of(vector: Expr) -> int:
    """The number of lanes."""
    return int(vector.ty.dtype.lanes)


def parts(function: Callable[..., Expr], size: int, *vectors: Expr) -> Expr:
    """``function`` applied to ``size`` dwords at a time, for narrower registers."""
    width = width_of(vectors[0])
    if width == size:
        return function(*vectors)
    done = [
        function(*(shuffle([v], [*range(start, start + size)]) for v in vectors))
        for start in range(0, width, size)
    ]
    return shuffle(done, [*range(width)])


def halves(function: Callable[..., Expr], *vectors: Expr) -> Expr:
    """``parts`` for 256-bit registers."""
    return parts(function, 8, *vectors)


def quarters(function: Callable[..., Expr], *vectors: Expr) -> Expr:
    """``parts`` for 128-bit registers."""
    return parts(function, 4, *vectors)


def round_to_int(x: Expr, dtype: str) -> Expr:
    """float32 vector -> int32 vector, ties to even: cvtps2dq."""
    return llvm("lrint", dtype, x)


def prefetch(address: Expr, locality: int = 2) -> Expr:
    """Prefetch the cache line at ``address``, which may be outside the array."""
    fetch = T.llvm_lookup_intrinsic_id("llvm.prefetch")
    return T.call_llvm_intrin(
        fetch, address, T.int32(0), T.int32(locality), T.int32(1), dtype="void"
    )
