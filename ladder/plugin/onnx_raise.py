"""Converts low-bit weights of an ONNX graph, in the forms that Ladder writes, to the dialect.

    MatMulNBits, GatherBlockQuantized                       codes packed in bytes
    MatMul, Gemm, Gather over DequantizeLinear              blocked, or with one scale per row
    ... over Mul(Sub(codes, zero), scale) and code books    ``ladder.export.decode`` writes them

Values are read as they are: a type that a file stores in a wider one is read as the wider one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect, facts
from ladder.ir.dtype import FLOAT_ZERO, SCALES, DType
from ladder.ir.element import ELEMENTS
from ladder.ir.site import SITE_KEY, constant_of
from ladder.plugin.model import weight_values

NBITS = {"MatMulNBits": "LowBitMatMul", "GatherBlockQuantized": "LowBitGather"}
PLAIN = {"MatMul": (1, "LowBitMatMul"), "Gemm": (1, "LowBitMatMul"), "Gather": (0, "LowBitGather")}


@dataclass(frozen=True)
class Weight:
    """Codes [N, K] of a type, and a scale and a zero point, both [N, groups]."""

    dtype: DType
    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None = None

    @property
    def operands(self) -> list[np.ndarray]:
        return [self.codes, self.scale, *([] if self.zero is None else [self.zero])]


def raise_model(model: ir.Model) -> int:
    """Rewrite in place; returns how many nodes became low-bit ones."""
    count = 0
    known: dict[object, list[ir.Value]] = {}
    types = _planned_types(model)
    for node in list(model.graph):
        found = _weight_of(node)
        if found is not None:
            place, op, weight = found
            planned = types.get(node.metadata_props.get(SITE_KEY, ""))
            _replace(node, place, op, _as_planned(weight, planned), known)
            count += 1
    return count


def _planned_types(model: ir.Model) -> dict[str, DType]:
    """The type of each site in the metadata of a file that Ladder wrote."""
    stored = json.loads(model.metadata_props.get(facts.METADATA_KEY, "{}"))
    choices = stored.get(facts.BitPlan.__name__, {}).get("choices", {})
    return {site: DType.parse(choice["type"]) for site, choice in choices.items()}


def _as_planned(weight: Weight, dtype: DType | None) -> Weight:
    """The weight in its planned type, if that represents the same numbers."""
    if dtype is None or dtype.tensor_scale or dtype.zero != weight.dtype.zero:
        return weight
    if dtype.element.book and dtype.element.name != weight.dtype.element.name:
        return weight
    if not dtype.element.book and not np.isin(weight.codes, dtype.element.values).all():
        return weight
    if dtype.scale_shape(*weight.codes.shape) != weight.scale.shape:
        return weight
    scale = weight.scale.astype(SCALES[dtype.scale])
    if not np.array_equal(scale.astype(np.float32), weight.scale):
        return weight
    zero = weight.zero
    if zero is not None and dtype.zero == FLOAT_ZERO:
        zero = zero.astype(dtype.zero_kind)
    return replace(weight, dtype=dtype, scale=scale, zero=zero)


def _weight_of(node: ir.Node) -> tuple[int, str, Weight] | None:
    """(operand that is the weight, the dialect's operator, the weight) of a low-bit node."""
    if node.op_type in NBITS and node.domain == "com.microsoft":
        weight = _nbits(node)
        return None if weight is None else (_place(node), NBITS[node.op_type], weight)
    if node.op_type not in PLAIN or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gemm" and not _plain_gemm(node):
        return None
    place, op = PLAIN[node.op_type]
    rows_are_k = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not _int(node, "transB", 0)
    )
    found = _read(node.inputs[place], rows_are_k)
    return None if found is None else (place, op, found)


def _place(node: ir.Node) -> int:
    return 0 if node.op_type == "GatherBlockQuantized" else 1


def _plain_gemm(node: ir.Node) -> bool:
    scaled = any(
        node.attributes[a].as_float() != 1.0 for a in ("alpha", "beta") if a in node.attributes
    )
    return not scaled and not _int(node, "transA", 0)


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _array(value: ir.Value | None) -> np.ndarray | None:
    """A constant, also after the Cast or Mul of constants that scales are written with."""
    tensor = constant_of(value)
    if tensor is not None:
        return tensor.numpy()
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in ("Cast", "Mul"):
        return None
    parts = [_array(v) for v in node.inputs]
    if any(p is None or p.size > (1 << 24) for p in parts):
        return None
    floats = [p.astype(np.float32) for p in parts if p is not None]
    result: np.ndarray = floats[0] if len(floats) == 1 else floats[0] * floats[1]
    return result


def _nbits(node: ir.Node) -> Weight | None:
    """Bytes [N, blocks, bytes] (of a Gather: [N, bytes]), the first code in the lowest bits."""
    gathers = node.op_type == "GatherBlockQuantized"
    at = [0, 2, 3] if gathers else [1, 2, 3]
    arrays = [_array(node.inputs[i]) if len(node.inputs) > i else None for i in at]
    packed, scale, zero = arrays
    more = [v for v in list(node.inputs)[4:5] if v is not None]  # g_idx
    bits, block = _int(node, "bits", 4), _int(node, "block_size", 0)
    if packed is None or scale is None or more or packed.dtype != np.uint8:
        return None
    n = packed.shape[0]
    codes = _unpacked(packed.reshape(n, -1), bits)
    k = codes.shape[1] if gathers else _int(node, "K", 0)
    codes, blocks = codes[:, :k], -(-k // block)
    scale = scale.astype(np.float32).reshape(n, blocks)
    if zero is None:
        name = f"int{bits}:g{block}"
        return Weight(DType.parse(name), (codes.astype(np.int16) - (1 << bits - 1)), scale)
    if zero.dtype == np.uint8:
        whole = _unpacked(zero.reshape(n, -1), bits)[:, :blocks]
        return Weight(DType.parse(f"uint{bits}:g{block}:zp"), codes, scale, whole)
    floats = zero.astype(np.float32).reshape(n, blocks)
    return Weight(DType.parse(f"uint{bits}:g{block}:zpf"), codes, scale, floats)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Undo ``ladder.export.nbits.pack_bits``."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = packed[..., None] >> shifts & np.uint8((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)


def _read(value: ir.Value | None, rows_are_k: bool) -> Weight | None:
    """The low-bit weight of a float operand, which is [K, N] if ``rows_are_k``."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        if perm is None or tuple(perm.as_ints()) != (1, 0):
            return None
        return _read(node.inputs[0], not rows_are_k)
    if node is None:
        return None
    if node.op_type == "DequantizeLinear":
        return _dequantized(node, rows_are_k)
    return _by_arithmetic(node, rows_are_k)


def _dequantized(node: ir.Node, rows_are_k: bool) -> Weight | None:
    arrays = [_array(v) for v in node.inputs]
    codes, scale = arrays[0], arrays[1]
    zero = arrays[2] if len(arrays) > 2 else None
    if codes is None or scale is None or codes.ndim != 2 or _zero_like(zero, len(node.inputs)):
        return None
    kind = node.inputs[0].dtype if node.inputs[0] is not None else None
    block, axis = _int(node, "block_size", 0), _int(node, "axis", 1) % 2
    if scale.ndim < 2:
        scale = scale.reshape((-1, 1) if axis == 0 else (1, -1))
        zero = None if zero is None else zero.reshape(scale.shape)
        along_n = scale.size > 1
        if along_n and (axis == 1) != rows_are_k:
            return None  # one scale for each column of K
        block = 0
    elif axis != (0 if rows_are_k else 1):
        return None
    if rows_are_k:
        codes, scale, zero = codes.T, scale.T, None if zero is None else zero.T
    n, k = codes.shape
    scale = np.ascontiguousarray(np.broadcast_to(scale.astype(np.float32), (n, scale.shape[1])))
    group = "row" if not block or block >= k else f"g{block}"
    return _typed(kind, np.ascontiguousarray(codes), scale, zero, group)


def _zero_like(zero: np.ndarray | None, inputs: int) -> bool:
    """Whether there is a zero point whose value is not known."""
    return zero is None and inputs > 2


def _typed(
    kind: Any, codes: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, group: str
) -> Weight | None:
    """A weight whose element is given by the ONNX type of its codes."""
    name = "" if kind is None else kind.name.lower()
    if name.startswith("float8"):
        element = {"float8e4m3fn": "fp8_e4m3", "float8e5m2": "fp8_e5m2"}.get(name)
        if element is None or zero is not None:
            return None
        return _of_book(codes.astype(np.float32), element, scale, group)
    if name not in ("int2", "int4", "int8", "uint2", "uint4", "uint8"):
        return None
    whole = codes.astype(np.int16)
    if name.startswith("int"):
        if zero is not None and zero.astype(np.int16).any():
            return None
        return Weight(DType.parse(f"{name}:{group}"), whole, scale)
    zeros = np.zeros_like(scale) if zero is None else np.broadcast_to(zero, scale.shape)
    return Weight(DType.parse(f"{name}:{group}:zp"), whole, scale, zeros.astype(np.uint8))


def _of_book(values: np.ndarray, element: str, scale: np.ndarray, group: str) -> Weight:
    """Values that are entries of a code book, as codes."""
    dtype = DType.parse(f"{element}:{group}")
    book = np.nan_to_num(dtype.element.values)
    order = np.argsort(book, kind="stable")
    codes = order[np.searchsorted(book[order], values)]
    return Weight(dtype, codes, scale)


def _by_arithmetic(node: ir.Node, rows_are_k: bool) -> Weight | None:
    """Slice(Reshape(Mul(Sub(numbers, zero), scale))): numbers [N, groups, group], or transposed."""
    steps: dict[str, ir.Node] = {}
    source: ir.Node | None = node
    for op in ("Slice", "Reshape", "Mul", "Sub"):
        if source is not None and source.op_type == op and source.inputs[0] is not None:
            steps[op], source = source, source.inputs[0].producer()
    if source is None or not {"Reshape", "Mul"} <= set(steps):
        return None
    numbers, book = _numbers(source)
    ends = _array(steps["Slice"].inputs[2]) if "Slice" in steps else None
    size = None if ends is None else int(ends[0])
    scale = _array(steps["Mul"].inputs[1])
    zero = _array(steps["Sub"].inputs[1]) if "Sub" in steps else None
    if numbers is None or scale is None or numbers.ndim != 3 or ("Sub" in steps and zero is None):
        return None
    axes = (2, 0, 1) if rows_are_k else (0, 1, 2)
    numbers, scale = numbers.transpose(axes), scale.astype(np.float32).transpose(axes)[..., 0]
    n, groups, group = numbers.shape
    codes = numbers.reshape(n, groups * group)[:, :size]
    text = f"g{group}" if groups > 1 else "row"
    scale = np.ascontiguousarray(np.broadcast_to(scale, (n, groups)))
    if zero is not None:
        zeros = zero.astype(np.float32).transpose(axes)[..., 0]
        zeros = np.ascontiguousarray(np.broadcast_to(zeros, (n, groups)))
        bits = _bits(codes)
        return Weight(DType.parse(f"uint{bits}:{text}:zpf"), codes, scale, zeros)
    if book is None:
        return None
    element = _element_of(book)
    return None if element is None else Weight(DType.parse(f"{element}:{text}"), codes, scale)


def _numbers(node: ir.Node) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(codes, the code book that they are looked up in or None)."""
    book = None
    if node.op_type == "Gather":
        book, cast = _array(node.inputs[0]), node.inputs[1].producer() if node.inputs[1] else None
        if book is None or cast is None or cast.inputs[0] is None:
            return None, None
        inner = cast.inputs[0].producer()
        if inner is None:
            return None, None
        node = inner
    if node.op_type != "DequantizeLinear":
        return None, None
    codes = _array(node.inputs[0])
    return (None if codes is None else codes.astype(np.int16)), book


def _bits(codes: np.ndarray) -> int:
    return next(bits for bits in (2, 3, 4, 8) if codes.max(initial=0) < 1 << bits)


def _element_of(book: np.ndarray) -> str | None:
    """The element with this code book."""
    for name, element in ELEMENTS.items():
        if element.book and np.array_equal(np.nan_to_num(element.values), book):
            return name
    return None


def _replace(
    node: ir.Node,
    place: int,
    op: str,
    weight: Weight,
    known: dict[object, list[ir.Value]],
) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    source = (node.inputs[place], str(weight.dtype))
    name = str(node.name or node.outputs[0].name)
    if source not in known:
        known[source] = weight_values(f"{name}.weight", weight.operands, weight.dtype)
        for value in known[source]:
            graph.register_initializer(value)
    data = node.inputs[1 if op == "LowBitGather" else 0]
    old = node.outputs[0]
    out = ir.Value(name=old.name, type=old.type, shape=old.shape)
    made = dialect.node(op, str(weight.dtype), [data, *known[source]], [out])
    made.name = name
    bias = _bias(node)
    nodes, result = [made], out
    if bias is not None:
        result = ir.Value(name=old.name, type=old.type, shape=old.shape)
        out.name = f"{name}.product"
        nodes.append(ir.Node("", "Add", [out, bias], outputs=[result], name=f"{name}.bias"))
    graph.insert_before(node, nodes)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _bias(node: ir.Node) -> ir.Value | None:
    at = {"Gemm": 2, "MatMulNBits": 5}.get(node.op_type)
    return node.inputs[at] if at is not None and len(node.inputs) > at else None
