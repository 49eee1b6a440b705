"""Recurrent operators in standard ones: ``Scan`` over tokens (see ``ladder.ir.recurrence``)."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.ir import recurrence

_LAST = "last = Constant <value_ints=[-1]> ()"


@dataclass(frozen=True)
class Body:
    """A function's operands, attributes with their types, and lines."""

    inputs: tuple[str, ...]
    lines: tuple[str, ...]
    outputs: tuple[str, ...] = ("y", "present")
    attributes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def body(op: str, overload: str) -> Body:
    """The body of a recurrent operator, by its name and overload."""
    if op == "CausalConvWithState":
        return _causal_conv(overload)
    if op == "LinearAttention":
        return _linear_attention(overload)
    return {"SelectiveScan": SCAN, "LinearRecurrence": RECURRENCE, "Wkv": WKV}[op]


def _scan(states: str, inputs: list[str], outputs: list[str], lines: list[str]) -> str:
    """Tokens of ``inputs`` [1, S, ...] one after the other; the body's names end in ``_t``."""
    scanned = ", ".join(f"{name}_t" for name in inputs)
    made = ", ".join(f"{name}_t" for name in outputs)
    step = "\n    ".join(lines)
    given, axes = ", ".join([states, *inputs]), f"[{', '.join('1' for _ in inputs)}]"
    return (
        f"present, {', '.join(outputs)} = Scan <num_scan_inputs = {len(inputs)}, "
        f"scan_input_axes = {axes}, scan_output_axes = [{', '.join('1' for _ in outputs)}], "
        f"body = step (held, {scanned}) => (held_next, {made}) {{\n    {step}\n  }}> ({given})"
    )


def _causal_conv(activation: str) -> Body:
    result = "conv" if activation == recurrence.SILU else "y"
    lines = [
        "inputs = Concat <axis=2> (state, x)",
        f"{result} = Conv <group: int = @group> (inputs, weight, bias)",
        *(("gate = Sigmoid (conv)", "y = Mul (conv, gate)") if result == "conv" else ()),
        "start = Shape <start=2, end=3> (x)",
        "end = Shape <start=2, end=3> (inputs)",
        "axis = Constant <value_ints=[2]> ()",
        "present = Slice (inputs, start, end, axis)",
    ]
    operands = ("x", "weight", "bias", "state")
    return Body(operands, tuple(lines), attributes=("group",), optional=("bias",))


def _linear_attention(rule: str) -> Body:
    decays, corrects = rule in recurrence.DECAYS, rule in recurrence.CORRECTS
    scanned = ["q_deep", "k_deep", "v_deep", *["decay_deep"] * decays, *["beta_deep"] * corrects]
    faded, new = "faded" if decays else "held", "new" if corrects else "value"
    step = [
        *(_FADE if decays else ()),
        "value = Unsqueeze (v_deep_t, two)",
        *(line.format(faded=faded) for line in (_CORRECT if corrects else ())),
        "column = Unsqueeze (k_deep_t, last)",
        f"stored = Mul (column, {new})",
        f"held_next = Add ({faded}, stored)",
        "recalled = MatMul (q_deep_t, held_next)",
        "y_deep_t = Mul (recalled, factor)",
    ]
    lines = [
        _LAST,
        "zero = Constant <value_ints=[0]> ()",
        "two = Constant <value_ints=[2]> ()",
        "factor = Constant <value_float: float = @scale> ()",
        "q_count = Constant <value_int: int = @q_num_heads> ()",
        "kv_count = Constant <value_int: int = @kv_num_heads> ()",
        "group_count = Div (q_count, kv_count)",
        "heads = Unsqueeze (kv_count, zero)",
        "groups = Unsqueeze (group_count, zero)",
        "by_head = Concat <axis=0> (zero, zero, heads, last)",
        "by_group = Concat <axis=0> (zero, zero, heads, groups, last)",
        "q_deep = Reshape (q, by_group)",
        *(f"{n}_deep = Reshape ({n}, by_head)" for n in ("k", "v")),
        *(["decay_deep = Reshape (decay, by_head)"] if decays else []),
        *(["beta_deep = Reshape (beta, by_head)"] if corrects else []),
        _scan("state", scanned, ["y_deep"], step),
        "flat = Concat <axis=0> (zero, zero, last)",
        "y = Reshape (y_deep, flat)",
    ]
    absent = (*(() if decays else ("decay",)), *(() if corrects else ("beta",)))
    attributes = ("q_num_heads", "kv_num_heads", "scale")
    operands = ("q", "k", "v", "state", "decay", "beta")
    return Body(operands, tuple(lines), attributes=attributes, optional=absent)


_FADE = (
    "decay_factor = Exp (decay_deep_t)",
    "decay_column = Unsqueeze (decay_factor, last)",
    "faded = Mul (held, decay_column)",
)
_CORRECT = (
    "row = Unsqueeze (k_deep_t, two)",
    "known = MatMul (row, {faded})",
    "missing = Sub (value, known)",
    "rate = Unsqueeze (beta_deep_t, last)",
    "new = Mul (missing, rate)",
)
SCAN = Body(
    ("x", "dt", "a", "b", "c", "state"),
    (
        _LAST,
        "one = Constant <value_ints=[1]> ()",
        _scan(
            "state",
            ["x", "dt", "b", "c"],
            ["y"],
            [
                "dt_column = Unsqueeze (dt_t, last)",
                "exponent = Mul (dt_column, a)",
                "factor = Exp (exponent)",
                "faded = Mul (factor, held)",
                "size = Mul (dt_t, x_t)",
                "column = Unsqueeze (size, last)",
                "row = Unsqueeze (b_t, one)",
                "stored = Mul (column, row)",
                "held_next = Add (faded, stored)",
                "weights = Unsqueeze (c_t, one)",
                "parts = Mul (held_next, weights)",
                "y_t = ReduceSum <keepdims=0> (parts, last)",
            ],
        ),
    ),
)
RECURRENCE = Body(
    ("x", "decay", "state"),
    (
        "one = Constant <value_ints=[1]> ()",
        "two = Constant <value_ints=[2]> ()",
        _scan(
            "state",
            ["x", "decay"],
            ["y_deep"],
            [
                "faded = Mul (decay_t, held)",
                "held_next = Add (faded, x_t)",
                "y_deep_t = Unsqueeze (held_next, one)",  # an Identity would be removed
            ],
        ),
        "y = Squeeze (y_deep, two)",
    ),
)
_SHARES = (
    "{m} = Max ({old}, {new})",
    "{m}_old_less = Sub ({old}, {m})",
    "{m}_old = Exp ({m}_old_less)",
    "{m}_new_less = Sub ({new}, {m})",
    "{m}_new = Exp ({m}_new_less)",
    "{m}_kept_top = Mul ({m}_old, top)",
    "{m}_more_top = Mul ({m}_new, v_t)",
    "{m}_top = Add ({m}_kept_top, {m}_more_top)",
    "{m}_kept_bottom = Mul ({m}_old, bottom)",
    "{m}_bottom = Add ({m}_kept_bottom, {m}_new)",
)
WKV = Body(
    ("k", "v", "decay", "first", "state"),
    (
        "one = Constant <value_ints=[1]> ()",
        _scan(
            "state",
            ["k", "v"],
            ["y"],
            [
                "three_top, three_bottom, three_most = Split <axis=1, num_outputs=3> (held)",
                "top = Squeeze (three_top, one)",
                "bottom = Squeeze (three_bottom, one)",
                "most = Squeeze (three_most, one)",
                "bonus = Add (k_t, first)",
                *(line.format(m="read", old="most", new="bonus") for line in _SHARES),
                "y_t = Div (read_top, read_bottom)",
                "old_most = Add (most, decay)",
                *(line.format(m="kept", old="old_most", new="k_t") for line in _SHARES),
                *(f"deep_{n} = Unsqueeze (kept{n}, one)" for n in ("_top", "_bottom", "")),
                "held_next = Concat <axis=1> (deep__top, deep__bottom, deep_)",
            ],
        ),
    ),
)
