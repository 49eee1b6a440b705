"""Ladder itself: whole products as in a compiled model, including the rounding of activations.

The product is lowered by the same pass, with the same choice of a scheme, and run by the same
virtual machine as in an artifact. Rounding activations and making tables is part of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.hardware.targets import NATIVE, Level
from ladder.ir import dialect, facts
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.passes.lower_types import LowerTypes
from ladder.peers.engine import (
    EVERY,
    F32,
    F64,
    TERNARY,
    Engine,
    Kind,
    Weight,
    activation,
)
from ladder.timing.cost_tables import machine_of
from ladder.timing.product import level_here, random_weight, rotated

TYPES = (
    "int1:g128",
    "ternary:tensor",
    "ternary:g128",
    "int2:g128",
    "uint2:g128:zp",
    "int3:g128",
    "int4:g128",
    "int4:g32:fp16",
    "int8:g128",
    "int8:row",
)


def class_of(dtype: DType) -> str:
    """The class of bits of a type, in which it is compared with peers."""
    bits = TERNARY if dtype.element.low == -1 and dtype.element.high == 1 else str(dtype.bits)
    return bits if dtype.bits > 1 else "1"


class Ladder(Engine):
    name, package = "ladder", "ladder"

    def version(self) -> str:
        return version("ladder")

    def isa(self) -> str:
        return level_here(NATIVE).name

    def kinds(self, n: int, k: int) -> list[Kind]:
        return [own_kind(text) for text in TYPES]

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Weight:
        return _Products(DType.parse(kind.type), n, k, tokens, rotate)


def own_kind(text: str) -> Kind:
    """The kind of a type of Ladder; a type that is not low-bit is refused."""
    dtype = DType.parse(text)
    if dtype.is_float:
        raise LadderError(f"--types '{text}': give low-bit types, for example int4:g128")
    return Kind(str(dtype), class_of(dtype), "")


class _Products(Weight):
    def __init__(self, dtype: DType, n: int, k: int, tokens: Sequence[int], rotate: float) -> None:
        import tvm

        self._dtype, self._operands = dtype, random_weight(dtype, n, k)
        level = level_here(NATIVE)
        graphs = {m: lowered(dtype, self._operands, m, level) for m in tokens}
        self._schemes = {m: scheme_of(model) for m, model in graphs.items()}
        self._run, weights = compiled(graphs, level)
        self.stored_bytes = sum(a.nbytes for a in weights)
        self._copies = [
            [tvm.runtime.from_dlpack(a) for a in copy] for copy in rotated(weights, rotate)
        ]
        self.steps = len(self._copies)
        self._x = {m: tvm.runtime.tensor(activation(m, k)) for m in tokens}

    def run(self, m: int, step: int) -> None:
        self._run[m](self._x[m], *self._copies[step])

    def output(self, m: int) -> F32:
        out: F32 = np.array(self._run[m](self._x[m], *self._copies[0])[0].numpy())
        return out

    def dequantized(self) -> F64:
        codes, scale, *rest = self._operands
        one = scale if len(scale) == 1 else scale[::EVERY]
        zero = rest[0] if self._dtype.zero_point else None
        if zero is not None and len(zero) > 1:
            zero = zero[::EVERY]
        own = np.float32(rest[-1]) if self._dtype.tensor_scale else None
        out: F64 = dequantized(self._dtype, codes[::EVERY], one, zero, own).astype(np.float64)
        return out

    def scheme(self, m: int) -> str:
        return self._schemes[m]


def lowered(dtype: DType, operands: Sequence[np.ndarray], m: int, level: Level) -> ir.Model:
    """x [M, K] -> x w.T as a graph, with the kernel that a compilation for ``level`` chooses."""
    n, k = operands[0].shape
    x = _float_value("x", (m, k))
    names = ("w.codes", "w.scale", "w.rest0", "w.rest1")
    weight = [
        ir.Value(name=name, const_value=ir.Tensor(array, name=name), shape=ir.Shape(array.shape))
        for name, array in zip(names, operands, strict=False)
    ]
    y = _float_value("y", (m, n))
    node = dialect.node("LowBitMatMul", str(dtype), [x, *weight], [y])
    node.name = "product"
    graph = ir.Graph(
        [x],
        [y],
        nodes=[node],
        initializers=weight,
        opset_imports={"": dialect.OPSET},
        name="product",
    )
    model = ir.Model(graph, ir_version=10)
    facts.put(model, machine_of(level.name))
    LowerTypes().run(model)
    return model


def scheme_of(model: ir.Model) -> str:
    """The scheme that the pass chose for the only product of ``lowered``."""
    kernels = facts.get(model, facts.Kernels)
    assert kernels is not None
    (choice,) = kernels.choices.values()
    return choice.scheme


def compiled(graphs: dict[int, ir.Model], level: Level) -> tuple[dict[int, Any], list[np.ndarray]]:
    """A callable for every M (of activations, then weights), and the weights in order."""
    import tvm
    from tvm.relax import VirtualMachine

    from ladder.codegen.packing import Weights
    from ladder.codegen.pipeline import ladder_pipeline
    from ladder.codegen.relax_import import Importer

    packed = Weights()
    importer = Importer(level.kernels, packed)
    signatures = [importer.add(model, f"m{m}") for m, model in graphs.items()]
    target = tvm.target.Target(dict(level.llvm))
    module = importer.builder.get()
    machine = VirtualMachine(
        tvm.compile(module, target=target, relax_pipeline=ladder_pipeline), tvm.cpu()
    )
    order = signatures[0].weights
    assert all(s.weights == order for s in signatures), "one packed copy serves every M"
    return {m: machine[f"m{m}"] for m in graphs}, [packed.arrays[name] for name in order]


def _float_value(name: str, shape: tuple[int, int]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
