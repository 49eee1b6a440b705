"""The ladder dialect: the operators that lowering produces, as ONNX functions.

An operator's body in standard operators *is* its meaning, so stock ONNX Runtime runs the IR after
any pass. There is a function for each type, with the type as its overload (``int4:g128``).

    LowBitMatMul(x, weight) -> y                   x @ dequantize(weight).T
    LowBitGather(ids, weight) -> y                 dequantize(weight)[ids]
    LowBitConv(x, weight) -> y                     a Conv's attributes: ``ladder.ir.convolution``
    QuantizeActivation(x) -> q, scale, total       modes int8, int4, int6:tensor, ...
    TabulateActivation(q) -> table                 exact tables of 4 codes
    PrecomputeTable(x) -> table, scale, total      mode table8
    DotGemm(q, scale, total, weight) -> y          a code book's codes as digits (LookUpCodes)
    LutGemm(table, scale, total, weight) -> y
    MuxActivation(x, channels) -> q, aux, scale, total      outliers in digits: ``ladder.ir.mux``
    MuxGemm(q, aux, scale, total, channels, weight) -> y
    SplitPlanes, PadPlanes, PackPlanes, ...        rungs of a weight: ``ladder.ir.rungs``
    SelectiveScan, LinearAttention, ...            recurrent operators: ``ladder.ir.recurrence``

``weight`` is: codes, scale[, zero point][, tensor scale]. Shapes: x [..., K], codes [N, K],
scale [N, groups], tensor scale [], q [..., B, block], table [..., B, block/4, 16], y [..., N],
channels [O], aux [..., D, O]. Static modes have one more operand of activations: scale [1].
A product's scale block is that of its type, or all of K, which is written after the type:
``int8:row@k4096``. ``ladder.ir.numerics`` fixes the bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir

from ladder.ir import (
    activation,
    activation_bodies,
    bodies,
    convolution,
    mux_bodies,
    recurrence,
    recurrence_bodies,
    rungs,
)
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux
from ladder.ir.numerics import LUT_GROUP

DOMAIN = "ladder"
VERSION = 1
OPSET = 25

OUTPUTS = {
    "LowBitMatMul": 1,
    "LowBitGather": 1,
    "LowBitConv": 1,
    "QuantizeActivation": 3,
    "TabulateActivation": 1,
    "PrecomputeTable": 3,
    "DotGemm": 1,
    "LutGemm": 1,
    "MuxActivation": 4,
    "MuxGemm": 1,
    **dict.fromkeys(rungs.RUNGS, 1),
    **dict.fromkeys(recurrence.OPERATORS, 2),
}


def low_bit_matmul(dtype: DType) -> ir.Function:
    """The product before lowering: weights are dequantized, activations are float."""
    lines = [*bodies.dequantized(dtype), "wt = Transpose <perm=[1, 0]> (w)", "y = MatMul (x, wt)"]
    return _function("LowBitMatMul", str(dtype), ["x", *_weight(dtype)], ["y"], lines)


def low_bit_gather(dtype: DType) -> ir.Function:
    """An embedding table in a low-bit type."""
    lines = [*bodies.dequantized(dtype), "y = Gather <axis=0> (w, ids)"]
    return _function("LowBitGather", str(dtype), ["ids", *_weight(dtype)], ["y"], lines)


def low_bit_conv(dtype: DType) -> ir.Function:
    """A convolution whose kernel [O, C/group, *taps] is a weight [N, K]."""
    lines = [*bodies.dequantized(dtype), *convolution.BODY]
    inputs, attributes = ["x", *_weight(dtype)], convolution.ATTRIBUTES
    return _function("LowBitConv", str(dtype), inputs, ["y"], lines, attributes)


def quantize_activation(block: int, mode: str = "int8") -> ir.Function:
    """Symmetric integer codes of a mode (``ladder.ir.activation``)."""
    kind = activation.QUANTIZED[mode]
    static = kind.granularity == activation.STATIC
    found = [] if static else ["size = Abs (blocks)", *activation_bodies.largest(kind.granularity)]
    lines = [
        *activation_bodies.blocks(block),
        *found,
        *activation_bodies.scale_and_inverse(kind.bits, static),
        f"{'value' if static else 'scaled'} = Mul (blocks, inverse)",
        *(activation_bodies.clipped("value", "scaled") if static else []),
        "rounded = Round (scaled)",
        "q = Cast <to=3> (rounded)",
        "wide = Cast <to=6> (q)",
        "total = ReduceSum <keepdims=0> (wide, last)",
        *activation_bodies.scale_of_blocks(kind.granularity),
    ]
    text, inputs = activation.overload(mode, block), ["x", *(["static"] if static else [])]
    return _function("QuantizeActivation", text, inputs, ["q", "scale", "total"], lines)


def mux_activation(mode: str, how: Mux, block: int) -> ir.Function:
    """Integer codes whose outlier channels have several digits (``ladder.ir.mux``)."""
    static = activation.QUANTIZED[mode].granularity == activation.STATIC
    inputs, outputs = ["x", "channels"], ["q", "aux", "scale", "total"]
    lines = mux_bodies.activation_codes(mode, how, block)
    text = mux_bodies.activation_overload(mode, how, block)
    return _function("MuxActivation", text, inputs + ["static"] * static, outputs, lines)


def tabulate_activation(block: int, mode: str = "int8") -> ir.Function:
    """Exact tables: entry i of a table group is the sum of the codes whose bits are set in i."""
    subset = [[i >> j & 1 for i in range(16)] for j in range(LUT_GROUP)]
    flat = ", ".join(str(v) for row in subset for v in row)
    byte = activation.QUANTIZED[mode].exact_tables_fit_a_byte
    lines = [
        *activation_bodies.grouped("q", block),
        f"subset_flat = Constant <value_ints=[{flat}]> ()",
        f"subset_shape = Constant <value_ints=[{LUT_GROUP}, 16]> ()",
        "subset_wide = Reshape (subset_flat, subset_shape)",
        "subset = Cast <to=1> (subset_wide)",
        "floats = Cast <to=1> (groups)",
        "sums = MatMul (floats, subset)",
        f"table = Cast <to={3 if byte else 5}> (sums)",
    ]
    text = activation.overload(mode, block)
    return _function("TabulateActivation", text, ["q"], ["table"], lines)


def precompute_table(block: int) -> ir.Function:
    """Mode table8: signed sums of four activations, rounded to int8, one scale per scale block."""
    lines = [
        *activation_bodies.blocks(block),
        *activation_bodies.grouped("blocks", block),
        "parts = Abs (groups)",
        *activation_bodies.split("size", "parts"),
        "s1 = Add (size0, size1)",
        "s2 = Add (s1, size2)",
        "s3 = Add (s2, size3)",
        "tables = Squeeze (s3, last)",
        "amax = ReduceMax <keepdims=1> (tables, last)",
        *activation_bodies.scale_and_inverse(8),
        *activation_bodies.split("a", "groups"),
        *activation_bodies.signed_sums(),
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


def dot_gemm(dtype: DType, block: int) -> ir.Function:
    """Integer products of scale blocks, combined in float32."""
    product = bodies.book_product(dtype) if dtype.levels else bodies.integer_product(dtype, block)
    lines = [*bodies.flat_activation("q", 2), *product, *bodies.combined(dtype)]
    codes, *rest = _weight(dtype, "weight_scale")
    inputs = ["q", "scale", "total", "digits" if dtype.levels else codes, *rest]
    return _function("DotGemm", product_overload(dtype, block), inputs, ["y"], lines)


def lut_gemm(dtype: DType, mode: str, block: int) -> ir.Function:
    """Table look-ups, one for four weights of a bit plane."""
    lines = [
        *bodies.flat_activation("table", 3),
        *bodies.unsigned_codes(dtype),
        *bodies.weight_blocks("u", block),
        *bodies.looked_up(dtype, -(-block // LUT_GROUP)),
        *bodies.corrected(dtype, *bodies.lut_correction(dtype, mode == activation.TABLE8)),
        *bodies.combined(dtype),
    ]
    inputs = ["table", "scale", "total", *_weight(dtype, "weight_scale")]
    text = f"{mode}:{product_overload(dtype, block)}"
    return _function("LutGemm", text, inputs, ["y"], lines)


def mux_gemm(how: Mux, dtype: DType, block: int) -> ir.Function:
    """Integer products of body and aux, added with an integer factor, combined in float32."""
    aux = mux_bodies.aux_sums(how, dtype, block)
    lines = [
        *bodies.flat_activation("q", 2),
        *bodies.integer_product(dtype, block, aux),
        *bodies.combined(dtype),
    ]
    inputs = ["q", "aux", "scale", "total", "channels", *_weight(dtype, "weight_scale")]
    return _function("MuxGemm", f"{how}:{product_overload(dtype, block)}", inputs, ["y"], lines)


def product_overload(dtype: DType, block: int) -> str:
    """The overload of a product: the weight's type, and the scale block if it is not the type's."""
    return str(dtype) if block == dtype.block else f"{dtype}@k{block}"


def parse_product(overload: str) -> tuple[DType, int]:
    """Undo ``product_overload``: (type, size of scale blocks)."""
    text, _, block = overload.partition("@k")
    dtype = DType.parse(text)
    return dtype, int(block or dtype.block)


def rung(op: str, overload: str) -> ir.Function:
    """A rung of a weight (``ladder.ir.rungs``)."""
    source, result, lines = rungs.body(op, overload)
    return _function(op, overload, [source], [result], lines)


def recurrent(op: str, overload: str) -> ir.Function:
    """A recurrent operator (``ladder.ir.recurrence``)."""
    body = recurrence_bodies.body(op, overload)
    inputs, outputs = list(body.inputs), list(body.outputs)
    return _function(op, overload, inputs, outputs, list(body.lines), body.attributes)


def required_functions(nodes: Iterable[ir.Node]) -> list[ir.Function]:
    """The functions that the ladder nodes among ``nodes`` call, each once."""
    keys = {(n.op_type, n.overload) for n in nodes if n.domain == DOMAIN}
    return [build(op, overload) for op, overload in sorted(keys)]


def build(op: str, overload: str) -> ir.Function:
    """The function of an operator of the dialect, from its name and overload."""
    on_codes = {
        "QuantizeActivation": quantize_activation,
        "TabulateActivation": tabulate_activation,
    }
    if op in on_codes:
        mode, block = activation.parse_overload(overload)
        return on_codes[op](block, mode)
    if op in rungs.RUNGS:
        return rung(op, overload)
    if op in recurrence.OPERATORS:
        return recurrent(op, overload)
    if op == "PrecomputeTable":
        return precompute_table(activation.parse_overload(overload)[1])
    if op == "LutGemm":
        mode, _, text = overload.partition(":")
        dtype, block = parse_product(text)
        return lut_gemm(dtype, mode, block)
    if op == "DotGemm":
        return dot_gemm(*parse_product(overload))
    if op == "MuxActivation":
        return mux_activation(*mux_bodies.parse_activation(overload))
    if op == "MuxGemm":
        how, _, text = overload.partition(":")
        return mux_gemm(Mux.parse(how), *parse_product(text))
    typed = {
        "LowBitMatMul": low_bit_matmul,
        "LowBitGather": low_bit_gather,
        "LowBitConv": low_bit_conv,
    }
    return typed[op](DType.parse(overload))


def is_lowered(domain: str, op: str) -> bool:
    """Whether an operator is a low one: neither a product over a typed weight, nor recurrent."""
    high = op.startswith("LowBit") or op in recurrence.OPERATORS
    return domain == DOMAIN and not high


def weight_type(node: ir.Node) -> DType:
    """The type of a node's weight, from its overload."""
    more_first = node.op_type in ("LutGemm", "MuxGemm")
    text = node.overload.partition(":")[2] if more_first else node.overload
    return parse_product(text)[0]


def weight_operands(dtype: DType) -> int:
    """The number of operands of a weight: codes, scale[, zero point][, tensor scale]."""
    return len(_weight(dtype))


def stored_codes(value: ir.Value | None) -> ir.Value:
    """The codes that a product's operand comes from, before all rungs."""
    while value is not None and value.producer() is not None:
        producer = value.producer()
        assert producer is not None and producer.op_type in rungs.RUNGS
        value = producer.inputs[0]
    assert value is not None
    return value


def install(model: ir.Model) -> None:
    """Give the model exactly the functions that its ladder nodes call."""
    for key in [k for k, f in model.functions.items() if f.domain == DOMAIN]:
        del model.functions[key]
    functions = required_functions(model.graph.all_nodes())
    for function in functions:
        model.functions[function.identifier()] = function
    if functions:
        model.opset_imports[DOMAIN] = VERSION


def node(
    op: str,
    overload: str,
    inputs: Sequence[ir.Value | None],
    outputs: Sequence[ir.Value],
    attributes: Sequence[ir.Attr] = (),
) -> ir.Node:
    """A node of the dialect."""
    return ir.Node(
        DOMAIN, op, inputs, attributes, outputs=outputs, overload=overload, version=VERSION
    )


def _weight(dtype: DType, scale: str = "scale") -> list[str]:
    zero = ["zero"] if dtype.zero_point else []
    return ["codes", scale, *zero, *(["tensor_scale"] if dtype.tensor_scale else [])]


def _function(
    op: str,
    overload: str,
    inputs: list[str],
    outputs: list[str],
    lines: list[str],
    attributes: Sequence[str] = (),
) -> ir.Function:
    body = "\n  ".join(lines)
    options = f"<{', '.join(attributes)}> " if attributes else ""
    text = (
        f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">\n'
        f"{op} {options}({', '.join(inputs)}) => ({', '.join(outputs)}) {{\n  {body}\n}}"
    )
    proto = onnx.parser.parse_function(text)
    proto.overload = overload
    function: ir.Function = ir.from_proto(proto)
    return function
