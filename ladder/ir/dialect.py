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

from ladder.ir.dtype import DType
from ladder.ir.numerics import LUT_GROUP, SMALLEST_SCALE

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
        # ONNX Runtime reshapes no 2- and 4-bit tensors: the zero makes the turn as bytes.
        lines += [
            "byte_zero = Cast <to=2> (zero)",
            "flat_byte_zero = Reshape (byte_zero, minus_one)",
            f"flat_zero = Cast <to={int(dtype.element.onnx)}> (flat_byte_zero)",
        ]
    return [
        *lines,
        f"w = DequantizeLinear {axis} (codes, flat_scale{', flat_zero' if zero else ''})",
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
        *_blocks(block),
        "size = Abs (blocks)",
        "amax = ReduceMax <keepdims=1> (size, last)",
        *_scale_and_inverse(),
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
        *_grouped("q", block),
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
        *_blocks(block),
        *_grouped("blocks", block),
        "parts = Abs (groups)",
        *_split("size", "parts"),
        "s1 = Add (size0, size1)",
        "s2 = Add (s1, size2)",
        "s3 = Add (s2, size3)",
        "tables = Squeeze (s3, last)",
        "amax = ReduceMax <keepdims=1> (tables, last)",
        *_scale_and_inverse(),
        *_split("a", "groups"),
        *_signed_sums(),
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
        *_flat_activation("q", 2),
        "byte_codes = Cast <to=%d> (codes)" % byte,  # noqa: UP031
        *_weight_blocks("byte_codes", dtype.block),
        "wt = Transpose <perm=[1, 2, 0]> (wb)",
        "at = Transpose <perm=[1, 0, 2]> (flat)",
        "raw = MatMulInteger (at, wt)",
        *_corrected(dtype, "zero_wide"),
        *_combined(dtype),
    ]
    inputs = ["q", "scale", "total", *_weight(dtype, "weight_scale")]
    return _function("DotGemm", str(dtype), inputs, ["y"], lines)


def lut_gemm(dtype: DType, mode: str) -> ir.Function:
    """Table look-ups, one for every four weights of every bit plane."""
    lines = [
        *_flat_activation("table", 3),
        *_unsigned_codes(dtype),
        *_weight_blocks("u", dtype.block),
        *_looked_up(dtype.bits, -(-dtype.block // LUT_GROUP)),
        *_corrected(dtype, *_lut_correction(dtype, mode)),
        *_combined(dtype),
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
    return ir.from_proto(proto)


def _blocks(block: int) -> list[str]:
    """x [..., K] -> blocks [..., B, block padded to whole tables]."""
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    lines = [
        "last = Constant <value_ints=[-1]> ()",
        f"block = Constant <value_ints=[{block}]> ()",
        "k = Shape <start=-1> (x)",
        "lead = Shape <end=-1> (x)",
        "minus_k = Neg (k)",
        "rest = Mod (minus_k, block)",
        "tail_shape = Concat <axis=0> (lead, rest)",
        "tail = ConstantOfShape (tail_shape)",
        "whole = Concat <axis=-1> (x, tail)",
        "block_shape = Concat <axis=0> (lead, last, block)",
    ]
    if padded == block:
        return [*lines, "blocks = Reshape (whole, block_shape)"]
    return [
        *lines,
        "ragged = Reshape (whole, block_shape)",
        "ragged_lead = Shape <end=-1> (ragged)",
        f"extra = Constant <value_ints=[{padded - block}]> ()",
        "fill_shape = Concat <axis=0> (ragged_lead, extra)",
        "fill = ConstantOfShape (fill_shape)",
        "blocks = Concat <axis=-1> (ragged, fill)",
    ]


def _grouped(name: str, block: int) -> list[str]:
    groups = -(-block // LUT_GROUP)
    return [
        f"group_lead = Shape <end=-1> ({name})",
        f"group_tail = Constant <value_ints=[{groups}, {LUT_GROUP}]> ()",
        "group_shape = Concat <axis=0> (group_lead, group_tail)",
        f"groups = Reshape ({name}, group_shape)",
    ]


def _split(prefix: str, name: str) -> list[str]:
    names = ", ".join(f"{prefix}{j}" for j in range(LUT_GROUP))
    return [f"{names} = Split <axis=-1, num_outputs={LUT_GROUP}> ({name})"]


def _scale_and_inverse() -> list[str]:
    return [
        "levels = Constant <value_float=127.0> ()",
        "raw_scale = Div (amax, levels)",
        f"smallest = Constant <value_float={float(SMALLEST_SCALE):.40f}> ()",
        "live = GreaterOrEqual (raw_scale, smallest)",
        "one = Constant <value_float=1.0> ()",
        "none = Constant <value_float=0.0> ()",
        "safe = Where (live, raw_scale, one)",
        "reciprocal = Div (one, safe)",
        "inverse = Where (live, reciprocal, none)",
        "kept = Where (live, raw_scale, none)",
    ]


def _signed_sums() -> list[str]:
    lines = []
    for j in range(LUT_GROUP):
        signs = ", ".join("1.0" if i >> j & 1 else "-1.0" for i in range(16))
        lines += [f"sign{j} = Constant <value_floats=[{signs}]> ()", f"p{j} = Mul (a{j}, sign{j})"]
    return [*lines, "t1 = Add (p0, p1)", "t2 = Add (t1, p2)", "t3 = Add (t2, p3)"]


def _flat_activation(name: str, kept: int) -> list[str]:
    """[..., B, ...] -> flat [M, B, ...] and lead, the shape before it."""
    return [
        "last = Constant <value_ints=[-1]> ()",
        f"lead = Shape <end=-{kept}> ({name})",
        f"inner = Shape <start=-{kept}> ({name})",
        "flat_shape = Concat <axis=0> (last, inner)",
        f"flat = Reshape ({name}, flat_shape)",
        "flat_blocks = Shape <start=1, end=2> (flat)",
        "pair_shape = Concat <axis=0> (last, flat_blocks)",
        "flat_scale = Reshape (scale, pair_shape)",
        "flat_total = Reshape (total, pair_shape)",
    ]


def _weight_blocks(name: str, block: int) -> list[str]:
    """codes [N, K] -> wb [N, B, block padded to whole tables]."""
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    return [
        f"block = Constant <value_ints=[{block}]> ()",
        "n = Shape <end=1> (codes)",
        "k = Shape <start=1> (codes)",
        "minus_k = Neg (k)",
        "rest = Mod (minus_k, block)",
        "three_zeros = Constant <value_ints=[0, 0, 0]> ()",
        "pads = Concat <axis=0> (three_zeros, rest)",
        f"whole = Pad ({name}, pads)",
        "block_shape = Concat <axis=0> (n, last, block)",
        "ragged = Reshape (whole, block_shape)",
        f"fill = Constant <value_ints=[0, 0, 0, 0, 0, {padded - block}]> ()",
        "wb = Pad (ragged, fill)",
    ]


def _unsigned_codes(dtype: DType) -> list[str]:
    return [
        "wide_codes = Cast <to=6> (codes)",
        f"offset64 = Constant <value_int={dtype.element.offset}> ()",
        "offset = Cast <to=6> (offset64)",
        "shifted = Add (wide_codes, offset)",
        "u = Cast <to=2> (shifted)",
    ]


def _looked_up(bits: int, groups: int) -> list[str]:
    """raw [B, M, N] = sum_b 2^b sum_g table[m, b, g, index]."""
    lines = [
        "tables = Shape <start=1, end=3> (flat)",
        f"group_tail = Constant <value_ints=[{groups}, {LUT_GROUP}]> ()",
        "rows_blocks = Shape <end=2> (wb)",
        "group_shape = Concat <axis=0> (rows_blocks, group_tail)",
        "groups = Reshape (wb, group_shape)",
        "one64 = Constant <value_int=1> ()",
        "one = Cast <to=2> (one64)",
        "place_wide = Constant <value_ints=[1, 2, 4, 8]> ()",
        "place = Cast <to=6> (place_wide)",
        "m = Shape <end=1> (flat)",
        "spread = Concat <axis=0> (m, tables, n)",
    ]
    for b in range(bits):
        lines += _plane(b)
    for b in range(1, bits):
        lines.append(f"sum{b} = Add ({'sum' if b > 1 else 'w'}{b - 1}, w{b})")
    return [*lines, f"raw = Transpose <perm=[1, 0, 2]> ({'sum' if bits > 1 else 'w'}{bits - 1})"]


def _plane(b: int) -> list[str]:
    return [
        f"by64_{b} = Constant <value_int={b}> ()",
        f"by{b} = Cast <to=2> (by64_{b})",
        f'moved{b} = BitShift <direction="RIGHT"> (groups, by{b})',
        f"bit{b} = BitwiseAnd (moved{b}, one)",
        f"bit_wide{b} = Cast <to=6> (bit{b})",
        f"placed{b} = Mul (bit_wide{b}, place)",
        f"index{b} = ReduceSum <keepdims=0> (placed{b}, last)",
        f"turned{b} = Transpose <perm=[1, 2, 0]> (index{b})",
        f"spread{b} = Expand (turned{b}, spread)",
        f"found{b} = GatherElements <axis=-1> (flat, spread{b})",
        f"found_wide{b} = Cast <to=6> (found{b})",
        f"two{b} = Constant <value_ints=[2]> ()",
        f"plane{b} = ReduceSum <keepdims=0> (found_wide{b}, two{b})",
        f"weight64_{b} = Constant <value_int={1 << b}> ()",
        f"weight{b} = Cast <to=6> (weight64_{b})",
        f"w{b} = Mul (plane{b}, weight{b})",
    ]


def _lut_correction(dtype: DType, mode: str) -> tuple[str, ...]:
    """Name of the multiplier of ``total`` to subtract, after the lines that make it."""
    half_range = (1 << dtype.bits) - 1
    if mode == "int8":
        return ("zero_wide",) if dtype.zero_point else ("", str(dtype.element.offset))
    if dtype.zero_point:
        return ("zero_table", str(half_range))
    return ("", str(2 * dtype.element.offset - half_range))


def _corrected(dtype: DType, name: str, number: str = "") -> list[str]:
    """sums [B, M, N] = raw - zero * total."""
    lines = ["turned_total = Transpose <perm=[1, 0]> (flat_total)"]
    lines.append("deep_total = Unsqueeze (turned_total, last)")
    if dtype.zero_point:
        lines += ["zero_rows = Cast <to=6> (zero)", *_per_block(dtype, "zero_rows", "zero_wide")]
    elif not number:
        return [*lines, "sums = Identity (raw)"]
    if name == "zero_table":
        lines += [
            "two64 = Constant <value_int=2> ()",
            "two = Cast <to=6> (two64)",
            "doubled = Mul (zero_wide, two)",
            f"range64 = Constant <value_int={number}> ()",
            "range = Cast <to=6> (range64)",
            "zero_table = Sub (doubled, range)",
        ]
    if not name:
        name = "zero_number"
        lines += [
            f"zero64 = Constant <value_int={number}> ()",
            "zero_number = Cast <to=6> (zero64)",
        ]
    return [*lines, f"shift = Mul (deep_total, {name})", "sums = Sub (raw, shift)"]


def _per_block(dtype: DType, name: str, out: str) -> list[str]:
    """[N, groups] -> [B or 1, 1, N], groups wider than a block repeated."""
    lines = [f"{out}_t = Transpose <perm=[1, 0]> ({name})"]
    source = f"{out}_t"
    if isinstance(dtype.group, int) and dtype.group > dtype.block:
        repeat = dtype.group // dtype.block
        lines += [
            f"{out}_deep = Unsqueeze ({source}, {out}_one)",
            f"{out}_times = Constant <value_ints=[1, {repeat}, 1]> ()",
            f"{out}_many = Expand ({out}_deep, {out}_times)",
            f"{out}_rows = Shape <start=1> ({source})",
            f"{out}_shape = Concat <axis=0> (last, {out}_rows)",
            f"{out}_long = Reshape ({out}_many, {out}_shape)",
            f"{out}_from = Constant <value_ints=[0]> ()",
            f"{out}_cut = Slice ({out}_long, {out}_from, flat_blocks, {out}_from)",
        ]
        source = f"{out}_cut"
    return [
        f"{out}_one = Constant <value_ints=[1]> ()",
        *lines,
        f"{out} = Unsqueeze ({source}, {out}_one)",
    ]


def _combined(dtype: DType) -> list[str]:
    return [
        *_per_block(dtype, "weight_scale", "ws"),
        "as_t = Transpose <perm=[1, 0]> (flat_scale)",
        "as_deep = Unsqueeze (as_t, last)",
        "sums_float = Cast <to=1> (sums)",
        "weighed = Mul (sums_float, ws)",
        "products = Mul (weighed, as_deep)",
        "first = Constant <value_ints=[0]> ()",
        "flat_y = ReduceSum <keepdims=0> (products, first)",
        "out_n = Shape <end=1> (codes)",
        "out_shape = Concat <axis=0> (lead, out_n)",
        "y = Reshape (flat_y, out_shape)",
    ]
