"""Windows of attention: which masks are some, and states that keep their rows only."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph

from ladder.frontend.types import states_of
from ladder.ir import facts
from ladder.ir.states import CONTEXT, ROWS, WINDOW, StateSpec
from ladder.passes.infra.runner import run_passes
from ladder.passes.roll_windows import RollWindows
from ladder.passes.store_states import stored_states
from ladder.pipeline.windows import find_windows
from ladder.reference import ReferenceLanguageModel

CONTEXT_ROWS, SPARE, VOCABULARY, WIDTH = 96, 8, 16, 4
TOKENS = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, 60)]
# Layers read "near", "all" or "by_text".
TEXT = """model (
    int64[1, tokens] input_ids, int64[1] position, float[1, 1, context, 4] "state.0.key",
    float[1, 1, context, 4] "state.0.value", float[1, 1, context, 4] "state.1.key"
) => (
    float[1, tokens, 4] logits, float[1, 1, context, 4] "state.0.key.next",
    float[1, 1, context, 4] "state.0.value.next", float[1, 1, context, 4] "state.1.key.next"
) {{
    x = Gather(embed, input_ids)
    rows = Unsqueeze(x, one1)
    values = Mul(rows, two)
    "state.0.key.next" = TensorScatter<axis = 2>("state.0.key", rows, position)
    "state.0.value.next" = TensorScatter<axis = 2>("state.0.value", values, position)
    "state.1.key.next" = TensorScatter<axis = 2>("state.1.key", values, position)
    tokens1 = Shape<start = 1, end = 2>(input_ids)
    tokens0 = Squeeze(tokens1)
    context1 = Shape<start = 2, end = 3>("state.{sized}.key")
    context0 = Squeeze(context1)
    steps = Range(zero, tokens0, one)
    places = Add(position, steps)
    column = Unsqueeze(places, one1)
    keys = Range(zero, context0, one)
    all = LessOrEqual(keys, column)
    first = Sub(column, window)
    after = Greater(keys, first)
    near = And(all, after)
    close = LessOrEqual(keys, first)
    far = And(all, close)
    odd = Mod(input_ids, two64)
    some = Equal(odd, zero)
    turned = Transpose<perm = [1, 0]>(some)
    by_text = And(near, turned)
    y0 = Attention("qs", "state.0.key.next", "state.0.value.next", {first})
    y1 = Attention("y0", "state.1.key.next", "state.1.key.next", {second})
    qs = Identity(rows)
    logits = Squeeze(y1, one1)
}}"""


def model(first: str, second: str, sized: int = 1) -> ir.Model:
    """Two layers with these masks; the context is the number of rows of layer ``sized``."""
    text = TEXT.format(first=first, second=second, sized=sized)
    lines = text.split("\n")
    early = next(line for line in lines if "qs = " in line)
    lines.remove(early)
    lines.insert(next(i for i, line in enumerate(lines) if "values = " in line), early)
    rng = np.random.default_rng(0)
    numbers = {"zero": 0, "one": 1, "one1": [1], "window": 11, "two64": 2}
    weights = {name: np.array(value, np.int64) for name, value in numbers.items()}
    weights["embed"] = rng.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
    weights["two"] = np.array(2, np.float32)
    made: ir.Model = ir.from_proto(graph("\n".join(lines), weights, opset=24))
    names = [dim for value in made.graph.inputs for dim in value.shape or ()]
    assert any(isinstance(dim, ir.SymbolicDim) and dim.value == CONTEXT for dim in names)
    for node in made.graph:
        if node.op_type in ("And", "LessOrEqual"):
            node.outputs[0].dtype = ir.DataType.BOOL
    return made


@pytest.mark.parametrize(
    ("mask", "window"), [("near", 11), ("all", None), ("far", None), ("by_text", None)]
)
def test_which_masks_are_windows(mask: str, window: int | None) -> None:
    found = find_windows(model(mask, "all"), CONTEXT_ROWS)
    assert found.masks == ({mask: window} if window else {})
    assert found.others == ((mask,) if mask == "far" else ())


def test_a_window_as_long_as_the_context_is_none() -> None:
    assert find_windows(model("near", "all"), 11) == facts.Windows()


@pytest.mark.parametrize(
    ("first", "second", "sized", "kinds"),
    [
        ("near", "all", 1, [WINDOW, WINDOW, ROWS]),
        ("near", "all", 0, [WINDOW, WINDOW, ROWS]),  # layer 1 is asked for the context instead
        ("near", "near", 1, [WINDOW, WINDOW, WINDOW]),
        ("near", "far", 1, [WINDOW, WINDOW, ROWS]),
        ("all", "far", 1, [ROWS, ROWS, ROWS]),
    ],
)
def test_a_rolled_model_computes_the_same(
    first: str, second: str, sized: int, kinds: list[str]
) -> None:
    """Calls of as many tokens as there is room for, padded ones, and single tokens."""
    before = model(first, second, sized)
    specs = states_of(before)
    wanted = ReferenceLanguageModel(before, specs, CONTEXT_ROWS).feed(TOKENS)
    rolled = before.clone()
    facts.put(rolled, find_windows(rolled, CONTEXT_ROWS))
    run_passes(rolled, [RollWindows(SPARE)])
    after = stored_states(rolled, specs, SPARE)
    assert [spec.kind for spec in after] == kinds
    assert all(spec.shape[2] == 11 + SPARE for spec in after if spec.kind == WINDOW)
    reference = ReferenceLanguageModel(rolled, after, CONTEXT_ROWS)
    logits = []
    for start, size in [(0, 8), (8, 5), (13, 8), (21, 1), (22, 1), (23, 8), (31, 3), (34, 8)]:
        reference.position = start
        padded = [*TOKENS[start : start + size], *[0] * (SPARE - size if size > 1 else 0)]
        logits.append(reference.feed(padded)[:size])
    got = np.concatenate(logits)
    assert np.abs(got - wanted[: len(got)]).max() < 1e-5


def test_the_memory_of_a_window_does_not_grow_with_the_context() -> None:
    """At 4096 tokens its states have the bytes of the window and of a call."""
    full = model("near", "near")
    rolled = full.clone()
    facts.put(rolled, find_windows(rolled, 4096))
    run_passes(rolled, [RollWindows(SPARE)])
    specs = states_of(full)
    held = [sum(size(s, 4096) for s in stored_states(m, specs, SPARE)) for m in (full, rolled)]
    assert held == [3 * 4096 * 4 * 4, 3 * (11 + SPARE) * 4 * 4]


def size(spec: StateSpec, context: int) -> int:
    """Bytes of a state for a context."""
    return 4 * prod(context if n == CONTEXT else int(n) for n in spec.shape)
