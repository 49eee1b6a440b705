"""The ladder dialect: the operators that lowering produces, as ONNX functions.

An operator's body in standard operators *is* its meaning: stock ONNX Runtime runs any stage of
the IR. One function is written for each type, told apart by its overload (``int4:g128``).

    LowBitMatMul(x, codes, scale[, zero_point]) -> y          x @ dequantize(codes).T
    LowBitGather(ids, codes, scale[, zero_point]) -> y        dequantize(codes)[ids]
    QuantizeActivation(x) -> q, scale, total                  mode int8
    TabulateActivation(q) -> table                            exact int16 tables of 4 codes
    PrecomputeTable(x) -> table, scale, total                 mode table8
    DotGemm(q, scale, total, codes, weight_scale[, zero]) -> y
    LutGemm(table, scale, total, codes, weight_scale[, zero]) -> y

Shapes: x [..., K], codes [N, K], scale [N, groups], q [..., B, block], table
[..., B, block/4, 16], y [..., N]. ``ladder.ir.numerics`` fixes the bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir

from ladder.ir import bodies
from ladder.ir.dtype import DType
from ladder.ir.numerics import LUT_GROUP

DOMAIN = "ladder"
VERSION = 1
OPSET = 25
MODES = ("int8", "table8")

OUTPUTS = {
    "LowBitMatMul": 1,
    "LowBitGather": 1,
    "QuantizeActivation": 3,
    "TabulateActivation": 1,
    "PrecomputeTable": 3,
    "DotGemm": 1,
    "LutGemm": 1,
}


def dequantized(dtype: DType) -> list[str]:
    """Lines that turn (codes, scale[, zero]) into w [N, K] by standard DequantizeLinear."""
    zero = ", zero" if dtype.zero_point else ""
    if isinstance(dtype.group, int):
        return [f"w = DequantizeLinear <axis=1, block_size={dtype.group}> (codes, scale{zero})"]
    if dtype.group == "row":
        flatten, axis = "minus_one = Constant <value_ints=[-1]> ()", "<axis=0>"
    else:
        flatten, axis = "minus_one = Constant <value_ints: ints=[]> ()", "<axis=0>"
    lines = [flatten, "flat_scale = Reshape (scale, minus_one)"]
    if zero:
        # ONNX Runtime reshapes no 2- and 4-bit tensors, and folds no Cast to 2 bits: bytes.
        lines += [
            "byte_codes = Cast <to=2> (codes)",
            "byte_zero = Cast <to=2> (zero)",
            "flat_zero = Reshape (byte_zero, minus_one)",
        ]
    operands = "byte_codes, flat_scale, flat_zero" if zero else "codes, flat_scale"
    return [
        *lines,
        f"w = DequantizeLinear {axis} ({operands})",
    ]


def low_bit_matmul(dtype: DType) -> ir.Function:
    """The high rung: weights dequantized, activations float."""
    lines = [*dequantized(dtype), "wt = Transpose <perm=[1, 0]> (w)", "y = MatMul (x, wt)"]
    return _function("LowBitMatMul", str(dtype), ["x", *_weight(dtype)], ["y"], lines)


def low_bit_gather(dtype: DType) -> ir.Function:
    """An embedding table in a low-bit type."""
    lines = [*dequantized(dtype), "y = Gather <axis=0> (w, ids)"]
    return _function("LowBitGather", str(dtype), ["ids", *_weight(dtype)], ["y"], lines)


def quantize_activation(block: int) -> ir.Function:
    """Mode int8: per token and K-block symmetric int8 codes."""
    lines = [
        *bodies.blocks(block),
        "size = Abs (blocks)",
        "amax = ReduceMax <keepdims=1> (size, last)",
        *bodies.scale_and_inverse(),
        "scaled = Mul (blocks, inverse)",
        "rounded = Round (scaled)",
        "q = Cast <to=3> (rounded)",
        "wide = Cast <to=6> (q)",
        "total = ReduceSum <keepdims=0> (wide, last)",
        "scale = Squeeze (kept, last)",
    ]
    return _function("QuantizeActivation", f"k{block}", ["x"], ["q", "scale", "total"], lines)


def tabulate_activation(block: int) -> ir.Function:
    """Exact tables: entry i of a group is the sum of the codes whose bit is set in i."""
    subset = [[i >> j & 1 for i in range(16)] for j in range(LUT_GROUP)]
    flat = ", ".join(str(v) for row in subset for v in row)
    lines = [
        *bodies.grouped("q", block),
        f"subset_flat = Constant <value_ints=[{flat}]> ()",
        f"subset_shape = Constant <value_ints=[{LUT_GROUP}, 16]> ()",
        "subset_wide = Reshape (subset_flat, subset_shape)",
        "subset = Cast <to=1> (subset_wide)",
        "floats = Cast <to=1> (groups)",
        "sums = MatMul (floats, subset)",
        "table = Cast <to=5> (sums)",
    ]
    return _function("TabulateActivation", f"k{block}", ["q"], ["table"], lines)


def precompute_table(block: int) -> ir.Function:
    """Mode table8: signed sums of four activations, rounded to int8, one scale per K-block."""
    lines = [
        *bodies.blocks(block),
        *bodies.grouped("blocks", block),
        "parts = Abs (groups)",
        *bodies.split("size", "parts"),
        "s1 = Add (size0, size1)",
        "s2 = Add (s1, size2)",
        "s3 = Add (s2, size3)",
        "tables = Squeeze (s3, last)",
        "amax = ReduceMax <keepdims=1> (tables, last)",
        *bodies.scale_and_inverse(),
        *bodies.split("a", "groups"),
        *bodies.signed_sums(),
        "deep_inverse = Unsqueeze (inverse, last)",
        "scaled = Mul (t3, deep_inverse)",
        "rounded = Round (scaled)",
        "table = Cast <to=3> (rounded)",
        "fifteen = Constant <value_ints=[15]> ()",
        "plus = Gather <axis=-1> (table, fifteen)",
        "wide = Cast <to=6> (plus)",
        "two_last = Constant <value_ints=[-2, -1]> ()",
        "total = ReduceSum <keepdims=0> (wide, two_last)",
        "half = Constant <value_float=0.5> ()",
        "halved = Mul (kept, half)",
        "scale = Squeeze (halved, last)",
    ]
    return _function("PrecomputeTable", f"k{block}", ["x"], ["table", "scale", "total"], lines)


def dot_gemm(dtype: DType) -> ir.Function:
    """Integer block products of int8 codes, combined in float32."""
    byte = 3 if dtype.element.signed else 2
    lines = [
        *bodies.flat_activation("q", 2),
        "byte_codes = Cast <to=%d> (codes)" % byte,  # noqa: UP031
        *bodies.weight_blocks("byte_codes", dtype.block),
        "wt = Transpose <perm=[1, 2, 0]> (wb)",
        "at = Transpose <perm=[1, 0, 2]> (flat)",
        "raw = MatMulInteger (at, wt)",
        *bodies.corrected(dtype, "zero_wide"),
        *bodies.combined(dtype),
    ]
    inputs = ["q", "scale", "total", *_weight(dtype, "weight_scale")]
    return _function("DotGemm", str(dtype), inputs, ["y"], lines)


def lut_gemm(dtype: DType, mode: str) -> ir.Function:
    """Table look-ups, one for every four weights of every bit plane."""
    lines = [
        *bodies.flat_activation("table", 3),
        *bodies.unsigned_codes(dtype),
        *bodies.weight_blocks("u", dtype.block),
        *bodies.looked_up(dtype.bits, -(-dtype.block // LUT_GROUP)),
        *bodies.corrected(dtype, *bodies.lut_correction(dtype, mode)),
        *bodies.combined(dtype),
    ]
    inputs = ["table", "scale", "total", *_weight(dtype, "weight_scale")]
    return _function("LutGemm", f"{mode}:{dtype}", inputs, ["y"], lines)


def required_functions(nodes: Iterable[ir.Node]) -> list[ir.Function]:
    """The functions that the ladder nodes among ``nodes`` call, each once."""
    keys = {(n.op_type, n.overload) for n in nodes if n.domain == DOMAIN}
    return [build(op, overload) for op, overload in sorted(keys)]


def build(op: str, overload: str) -> ir.Function:
    """The function behind an operator of the dialect, from its name and overload."""
    if op in ("QuantizeActivation", "TabulateActivation", "PrecomputeTable"):
        makers = {
            "QuantizeActivation": quantize_activation,
            "TabulateActivation": tabulate_activation,
            "PrecomputeTable": precompute_table,
        }
        return makers[op](int(overload.removeprefix("k")))
    if op == "LutGemm":
        mode, _, text = overload.partition(":")
        return lut_gemm(DType.parse(text), mode)
    typed = {"LowBitMatMul": low_bit_matmul, "LowBitGather": low_bit_gather, "DotGemm": dot_gemm}
    return typed[op](DType.parse(overload))


def weight_type(node: ir.Node) -> DType:
    """The weight's type of a node that has one, from its overload."""
    mode_first = node.op_type == "LutGemm"
    return DType.parse(node.overload.partition(":")[2] if mode_first else node.overload)


def install(model: ir.Model) -> None:
    """Make the model's functions exactly those that its ladder nodes call."""
    for key in [k for k, f in model.functions.items() if f.domain == DOMAIN]:
        del model.functions[key]
    functions = required_functions(model.graph.all_nodes())
    for function in functions:
        model.functions[function.identifier()] = function
    if functions:
        model.opset_imports[DOMAIN] = VERSION


def node(
    op: str, overload: str, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value]
) -> ir.Node:
    """A node of the dialect."""
    return ir.Node(DOMAIN, op, inputs, outputs=outputs, overload=overload, version=VERSION)


def _weight(dtype: DType, scale: str = "scale") -> list[str]:
    return ["codes", scale, *(["zero"] if dtype.zero_point else [])]


def _function(
    op: str, overload: str, inputs: list[str], outputs: list[str], lines: list[str]
) -> ir.Function:
    body = "\n  ".join(lines)
    text = (
        f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">\n'
        f"{op} ({', '.join(inputs)}) => ({', '.join(outputs)}) {{\n  {body}\n}}"
    )
    proto = onnx.parser.parse_function(text)
    proto.overload = overload
    function: ir.Function = ir.from_proto(proto)
    return function
