"""Attention of ONNX is compiled whole, or refused by name before TVM sees it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from attention_cases import IN_ROWS, RIGHT_IN_REFERENCE, RIGHT_IN_RUNTIME, Case
from compiled import run_compiled
from kernel_cases import HERE
from onnx.reference import ReferenceEvaluator
from small_graphs import graph, stock

from ladder.errors import LadderError
from ladder.hardware.targets import Level

pytestmark = pytest.mark.kernels
TOLERANCE = {"float32": 1e-5, "float16": 1e-2}


def compare(case: Case, wanted: list[np.ndarray]) -> None:
    got = run_compiled(case.model(), HERE[0], case.feeds).outputs
    assert len(got) == len(wanted) == case.outputs
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.abs(a - b).max() <= TOLERANCE[case.dtype]


@pytest.mark.parametrize("name", RIGHT_IN_RUNTIME)
def test_a_form_that_onnx_runtime_computes(name: str) -> None:
    case = RIGHT_IN_RUNTIME[name]
    compare(case, stock(case.model(), case.feeds))


@pytest.mark.parametrize("name", RIGHT_IN_REFERENCE)
def test_a_form_of_the_standard(name: str) -> None:
    case = RIGHT_IN_REFERENCE[name]
    reference = ReferenceEvaluator(ir.to_proto(case.model()))
    compare(case, list(reference.run(None, dict(case.feeds))))


def test_two_operators_that_differ_in_scale_alone() -> None:
    kind = "float[1, 2, 3, 16]"
    text = f"""g ({kind} q, {kind} k, {kind} v) => ({kind} a, {kind} b) {{
        a = Attention <scale = 0.5> (q, k, v)
        b = Attention <scale = 2.0> (q, k, v)
    }}"""
    made = ir.from_proto(graph(text, {}, opset=24))
    feeds = {n: Case(q=(1, 2, 3, 16), k=(1, 2, 3, 16)).feeds[n] for n in "qkv"}
    wanted = stock(made, feeds)
    got = run_compiled(made, HERE[0], feeds).outputs
    for a, b in zip(got, wanted, strict=True):
        assert np.abs(a - b).max() <= 1e-5


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(outputs=4, past=3), "with the output qk_matmul_output"),
        (Case(dtype="float64"), "of float64"),
        (Case(opset=25, attributes={"left_window_size": 2}), "with left_window_size"),
    ],
)
def test_what_has_no_kernel(case: Case, reason: str) -> None:
    with pytest.raises(LadderError, match=f"Attention {reason} has no kernel"):
        run_compiled(case.model(), HERE[0], case.feeds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = Attention (q, k, v)", "of inputs with 3 dimensions, without q_num_heads"),
        ("y = Attention <q_num_heads = 3, kv_num_heads = 2> (q, k, v)", "with heads that do not"),
    ],
)
def test_what_is_not_in_the_standard(text: str, reason: str) -> None:
    kinds = (f"float{list(IN_ROWS[name])} {name}" for name in "qkv")
    made = ir.from_proto(
        graph(f"g ({', '.join(kinds)}) => (float[2, 6, N] y) {{ {text} }}", {}, 24)
    )
    with pytest.raises(LadderError, match=f"Attention {reason}.* has no kernel"):
        run_compiled(made, HERE[0], {})


STORED = {
    "float16": ("Cast <to = 1> (k)", "Cast <to = 1> (v)", ""),
    "int8": ("Mul (fk, s)", "Mul (fv, t)", "fk = Cast <to = 1> (k)\nfv = Cast <to = 1> (v)"),
}


@pytest.mark.parametrize("level", [HERE[0], HERE[-1]], ids=lambda level: str(level.name))
@pytest.mark.parametrize("kind", STORED)
def test_keys_that_are_stored_in_fewer_bits_are_read_as_they_are(kind: str, level: Level) -> None:
    feeds = stored(kind)
    keys, values, before = STORED[kind]
    inputs = ", ".join(
        f"{'float' if a.dtype == np.float32 else kind}{list(a.shape)} {name}"
        for name, a in feeds.items()
    )
    text = f"""g ({inputs}) => (float[1, 4, 6, 24] y) {{
        {before}
        dk = {keys}
        dv = {values}
        y = Attention <is_causal = 1> (q, dk, dv)
    }}"""
    made = ir.from_proto(onnx.shape_inference.infer_shapes(graph(text, {}, opset=24)))
    wanted = stock(made, feeds)
    compiled = run_compiled(made, level, feeds)
    assert np.abs(compiled.outputs[0] - wanted[0]).max() < 1e-5
    assert [name for name in compiled.kernels if name.endswith(kind)]
    assert not [name for name in compiled.kernels if "cast" in name]


def stored(kind: str) -> dict[str, np.ndarray]:
    """Queries, keys and values as ``kind``, and the scales of codes."""
    rng, shape = np.random.default_rng(0), (1, 2, 9, 24)
    codes = 1 if kind == "int8" else 40
    feeds = {"q": rng.standard_normal((1, 4, 6, 24)).astype(np.float32)}
    for name in "kv":
        feeds[name] = (40 * rng.standard_normal(shape) / codes).clip(-127, 127).astype(kind)
    for name in "st" if kind == "int8" else "":
        feeds[name] = (rng.random((1, 2, 9, 1)) / 40).astype(np.float32)
    return feeds
