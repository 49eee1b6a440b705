"""Products of rounded activations: which patterns each gets, by the mode and its type."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from ladder.export import dynamic, static
from ladder.export.integers import FORM, to_integers
from ladder.export.opset import raise_opset
from ladder.export.weights import high_rung_nodes
from ladder.hardware.targets import cpu_flags
from ladder.ir import facts
from ladder.ir.activation import FLOAT, WITH_ZERO_POINT, is_static
from ladder.ir.dtype import DType
from ladder.ir.facts import Muxing
from ladder.ir.site import SITE_KEY

LEAST_OPSET = 18  # Reduce operators take axes as inputs
OVERFLOW = (
    "this CPU has no VNNI: ONNX Runtime's sums of 8-bit products may overflow on it; weights of "
    "--type int7:row never do, at the same speed"
)
MUXED = FORM  # of sites with outliers, in every mode
PRODUCTS = ("MatMul", "Gemm")


def write_rounded(model: ir.Model, mode: str, portable: bool) -> None:
    """Write every product, and in a static mode every convolution, whose activations are rounded.

    Outliers are written in symmetric integers. What is left in the dialect is only stored in low
    bits.
    """
    raise_opset(model, LEAST_OPSET)
    opset = model.graph.opset_imports.get("", LEAST_OPSET)
    if is_static(mode):
        static.write_sites(model, mode, opset, portable)
    else:
        dynamic.write_products(model, mode, opset)
    left = [
        node.metadata_props.get(SITE_KEY, "")
        for node in high_rung_nodes(model)
        if node.op_type == "LowBitMatMul"
    ]
    if left and mode not in WITH_ZERO_POINT:
        to_integers(model, mode)
    muxed = facts.get(model, Muxing) or Muxing()
    outlying = tuple(site for site in left if site in muxed.sites)
    if outlying and mode in WITH_ZERO_POINT:
        to_integers(model, WITH_ZERO_POINT[mode], outlying)


def form(mode: str, op: str, dtype: DType, k: int, kind: ir.DataType) -> str | None:
    """The operators of a site whose activations are rounded, or None where it is only stored."""
    if mode == FLOAT:
        return None
    if is_static(mode):
        if op != "Gather" and static.refuse(op, dtype, k, kind) is None:
            return static.FORM if op in PRODUCTS else static.CONVOLUTION
    elif op in PRODUCTS and dynamic.refuse(mode, dtype, k) is None:
        return dynamic.form(mode)
    return FORM if op in PRODUCTS and mode not in WITH_ZERO_POINT else None


def may_overflow(mode: str, types: Collection[DType]) -> bool:
    """Whether ONNX Runtime's sums could overflow on this CPU: x86 without VNNI has 16 bits."""
    fast = mode in WITH_ZERO_POINT or mode == "int8:static"
    wide = any(dtype.element.signed and dtype.bits > dynamic.SAFE_BITS for dtype in types)
    flags = cpu_flags()
    return fast and wide and "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni"}


def effect(mode: str, form: str) -> str:
    """What to expect in ONNX Runtime, as text for reports."""
    if form == FORM:
        return "an integer product in several steps: slower than with int8:row weights"
    if mode == "int8:static":
        return "integers for ARM processors, XNNPACK and NPUs; on x86 take uint8:static"
    return "computed in integers, faster than float"


def refuse(mode: str, op: str, dtype: DType, k: int, kind: ir.DataType) -> str | None:
    """Why the activations of a product or convolution stay float, or None if they are rounded."""
    if mode == FLOAT or op == "Gather" or form(mode, op, dtype, k, kind) is not None:
        return None
    if op == "Conv" and not is_static(mode):
        return "ONNX Runtime's integer convolutions are slower than float unless scales are static"
    if is_static(mode):
        return static.refuse(op, dtype, k, kind)
    return dynamic.refuse(mode, dtype, k)
