"""The vector expressions that kernels share: every instruction they rely on has one name here."""

from __future__ import annotations

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


def splat(value: Expr, lanes: int) -> Expr:
    return T.broadcast(value, lanes)


def lanes(start: Expr) -> Expr:
    """The index of 16 neighbours: one AVX-512 vector of dwords."""
    return T.ramp(start, 1, 16)


def shuffle(vectors: list[Expr], order: list[int]) -> Expr:
    """Lanes ``order`` of the concatenated ``vectors``."""
    return tvm.tirx.Shuffle(vectors, [T.int32(i) for i in order])


def round_to_int(x: Expr, dtype: str) -> Expr:
    """float32 vector -> int32 vector, ties to even: cvtps2dq."""
    return llvm("lrint", dtype, x)


def prefetch(address: Expr, locality: int = 2) -> Expr:
    """Ask for the cache line at ``address``, which may lie outside the array."""
    fetch = T.llvm_lookup_intrinsic_id("llvm.prefetch")
    return T.call_llvm_intrin(
        fetch, address, T.int32(0), T.int32(locality), T.int32(1), dtype="void"
    )
