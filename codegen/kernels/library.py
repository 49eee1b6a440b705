"""The kernels by operator name and kernel family."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

from ladder.codegen.kernels import activation, portable, quantize
from ladder.codegen.kernels.arm import neon
from ladder.codegen.kernels.x86 import avx2, avx512, dot_avx2
from ladder.codegen.layout import Packing
from ladder.errors import LadderError
from ladder.ir.activation import QUANTIZED, TABLE8

DESCRIBED = "ladder.kernel"  # the attribute that says what a PrimFunc computes
Build = Callable[[Packing, str], Any]

ACTIVATION: dict[str, Build] = {
    "quantize_activation": lambda packing, mode: quantize.quantize_activation(mode, packing.block),
    "table8": lambda packing, mode: activation.table8(packing.block),
    "exact_tables": lambda packing, mode: activation.exact_tables(mode),
}
AVX512: dict[str, Build] = {"lut_gemm": avx512.lut_gemm, "dot_gemm": avx512.dot_gemm}
KERNELS: dict[str, dict[str, Build]] = {
    "portable": {**ACTIVATION, "lut_gemm": portable.lut_gemm, "dot_gemm": portable.dot_gemm},
    "avx2": {**ACTIVATION, "lut_gemm": avx2.lut_gemm, "dot_gemm": dot_avx2.dot_gemm},
    "avxvnni": {**ACTIVATION, "lut_gemm": avx2.lut_gemm, "dot_gemm": dot_avx2.dot_gemm_vnni},
    "avx512": {**ACTIVATION, **AVX512},
    "amx": {**ACTIVATION, **AVX512, "tile_gemm": avx512.tile_gemm},
    "neon": {**ACTIVATION, "lut_gemm": neon.lut_gemm, "dot_gemm": neon.dot_gemm},
    "dotprod": {**ACTIVATION, "lut_gemm": neon.lut_gemm_dots, "dot_gemm": neon.dot_gemm_dots},
    "i8mm": {
        **ACTIVATION,
        "lut_gemm": neon.lut_gemm_mixed_dots,
        "dot_gemm": neon.dot_gemm_mixed_dots,
    },
}


@cache
def kernel(op: str, packing: Packing, mode: str, family: str) -> Any:
    """The PrimFunc of ``op`` (its operands: ``signature``) for a kernel family."""
    if mode not in (*QUANTIZED, TABLE8):
        known = ", ".join((*QUANTIZED, TABLE8))
        raise LadderError(f"activation mode '{mode}' has no integer kernel; one of: {known}")
    if op not in KERNELS[family]:
        known = ", ".join(KERNELS[family])
        raise LadderError(f"no kernel '{op}' for {family} instructions; one of: {known}")
    func = KERNELS[family][op](packing, mode)
    return func.with_attr(DESCRIBED, json.dumps([op, asdict(packing), mode]))


def described(func: Any) -> tuple[str, Packing, str] | None:
    """(operator, packing, mode) of a kernel of any family; None for other PrimFuncs."""
    text = func.attrs.get(DESCRIBED) if func.attrs else None
    if text is None:
        return None
    op, packing, mode = json.loads(str(text))
    return op, Packing(**packing), mode


def name_of(func: Any) -> str:
    """The symbol of a PrimFunc: it contains all parameters, so equal names mean equal code."""
    return str(func.attrs["global_symbol"])
