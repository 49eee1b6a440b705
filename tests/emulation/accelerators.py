"""Runners of the cross-target hash for Hexagon and OpenCL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kernel_cases import Case

from emulation import hexagon, opencl
from ladder.codegen.hexagon_library import build_hexagon
from ladder.codegen.kernels.signature import present, weight_operands
from ladder.codegen.layout import blocks_of, tiles_of, total_chunks
from ladder.codegen.opencl_library import build_opencl
from ladder.hardware.targets import ACCELERATORS
from ladder.ir.activation import TABLE8
from ladder.ir.numerics import F32

Array = np.ndarray
GPU = ACCELERATORS["snapdragon-x-elite-gpu"]
NPU = ACCELERATORS["snapdragon-x-elite-npu"]
EMULATED_NPU = {
    **NPU.config,
    "mcpu": f"hexagon{hexagon.EMULATED}",
    "mattr": [f"+hvx{hexagon.EMULATED}", "+hvx-length128b"],
}


def run_on_opencl(products: Sequence[Any]) -> list[dict[str, F32]]:
    """Run each product from its own source file, with small-batch kernels for several tokens."""
    types = list(dict.fromkeys(product.case.dtype for product in products))
    with tempfile.TemporaryDirectory() as place:
        build_opencl(GPU.config, types, Path(place))
        programs = {dtype: opencl.Program(Path(place), str(dtype)) for dtype in types}
        activations = {dtype.block: programs[dtype] for dtype in types}
        activations |= {t.block: programs[t] for t in types if not t.element.storage.per_byte}
        return [
            _opencl_outputs(programs[p.case.dtype], activations[p.case.dtype.block], p)
            for p in products
        ]


def _opencl_outputs(
    program: opencl.Program, activations: opencl.Program, product: Any
) -> dict[str, F32]:
    """``activations`` is a program for the same scale block, whose kernels serve all types."""
    case, mode = product.case, product.mode
    (m, k), n = case.x.shape, len(case.codes)
    sizes, tokens = {"M": m, "N": n, "K": k}, 1 if m == 1 else 4

    def quantized(op: str) -> dict[str, Array]:
        return activations.run(activations.find(op, mode), {"x": case.x}, **sizes)

    made = quantized("table8" if mode == TABLE8 else "quantize_activation")
    weights = {"a_scale": made["scale"], "a_total": made["total"], **_named(case)}
    out: dict[str, F32] = {}
    for op in (op for op in product.ops if op != "tile_gemm"):
        read = made["out"]
        if op == "lut_gemm" and mode != TABLE8:
            kernel = activations.find("exact_tables", mode)
            read = activations.run(kernel, {"q": read}, **sizes)["table"]
        inputs = {"activation": read, **weights}
        out[op] = program.run(program.find(op, mode, tokens), inputs, **sizes)["out"]
    return out


def _named(case: Case) -> dict[str, Array]:
    names = (operand.name for operand in present(weight_operands("dot_gemm", case.packing)))
    return dict(zip(names, case.weights(), strict=True))


def run_on_hexagon(products: Sequence[Any]) -> list[dict[str, F32]]:
    """Three runs of the emulator: activations, tables, products."""
    types = list(dict.fromkeys(product.case.dtype for product in products))
    with tempfile.TemporaryDirectory() as place:
        functions = build_hexagon(EMULATED_NPU, types, Path(place))
        run = hexagon.Program(Path(place), functions)
        made = run([_activation(product) for product in products])
        todo = [
            (product, a, op)
            for product, a in zip(products, made, strict=True)
            for op in product.ops
            if op != "tile_gemm"
        ]
        split = [(p, a) for p, a, op in todo if op == "lut_gemm" and p.mode != TABLE8]
        exact = iter(run([_exact_tables(product, a[0]) for product, a in split]))
        calls = []
        for product, (first, scale, total), op in todo:
            tables = op == "lut_gemm" and product.mode != TABLE8
            read = next(exact)[0] if tables else first
            calls.append(_product(product, op, [read, scale, total]))
        outputs: list[dict[str, F32]] = [{} for _ in products]
        numbers = {id(product): i for i, product in enumerate(products)}
        for (product, _, op), (out,) in zip(todo, run(calls), strict=True):
            outputs[numbers[id(product)]][op] = out
        return outputs


def _sizes(case: Case) -> dict[str, int]:
    (m, k), n, packing = case.x.shape, len(case.codes), case.packing
    blocks, chunks = blocks_of(k, packing.block), total_chunks(k, packing.block)
    scales, lines = blocks if packing.grouped else 1, packing.plane_shape(n, k)[1]
    return {"M": m, "K": k, "N": n, "B": blocks, "C": chunks, "P": lines, "S": scales,
            "NT": tiles_of(n)}  # fmt: skip


def _activation(product: Any) -> hexagon.Call:
    case, sizes = product.case, _sizes(product.case)
    table8 = product.mode == TABLE8
    name = "table8_hvx" if table8 else f"quantize_activation_hvx_{product.mode}"
    blocks = (sizes["M"], sizes["B"])
    results = [
        ((sizes["M"], sizes["C"], 64 if table8 else 16), "int8"),
        (blocks, "float32"),
        (blocks, "int32"),
    ]
    return hexagon.Call(f"{name}_k{case.packing.block}", [case.x], results, sizes)


def _exact_tables(product: Any, q: Array) -> hexagon.Call:
    sizes = _sizes(product.case)
    results = [((sizes["M"], sizes["C"], 2, 64), "int8")]
    return hexagon.Call(f"exact_tables_hvx_{product.mode}", [q], results, sizes)


def _product(product: Any, op: str, read: Sequence[Array]) -> hexagon.Call:
    case, sizes = product.case, _sizes(product.case)
    mode = f"_{product.mode}" if op == "lut_gemm" else ""
    inputs, results = [*read, *case.weights()], [((sizes["M"], sizes["N"]), "float32")]
    return hexagon.Call(f"{op}_hvx{mode}_{case.packing}", inputs, results, sizes)


RUNNERS: dict[str, Callable[[Sequence[Any]], list[dict[str, F32]]]] = {
    "hexagon-v67": run_on_hexagon,
    "opencl-pocl": run_on_opencl,
}
