"""Facts on a model, and the IR as text."""

from __future__ import annotations

import json
from collections.abc import Callable

import onnx_ir as ir
import pytest
from small_graphs import graph, quantized, random

from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.dump import dump_text
from ladder.ir.facts import BitPlan, Choice, Rounding, Skipped

EVERYTHING = """g (float[M, 64] x, int64[M] i, bool c) => (float[M, 8] y, float[M, 64] e) {
    e = Gather(table, i)
    s = Constant<value = int64[2] {-1, 64}>()
    r = Reshape(x, s)
    p, q = Split<axis = -1, num_outputs = 2>(r)
    h = Concat<axis = -1>(q, p)
    a = MatMul(h, w)
    y = If(c) <then_branch = yes () => (float[M, 8] t) { t = Clip(a, , high) },
               else_branch = no () => (float[M, 8] n) { n = custom.Thing<k = 3, f = 0.5>(a) }>
}"""


@pytest.fixture
def model() -> ir.Model:
    weights = {"table": random(64, 64), "w": random(64, 8), "high": random()}
    made: ir.Model = ir.from_proto(graph(EVERYTHING, weights))
    return made


def test_put_and_get(model: ir.Model) -> None:
    assert facts.get(model, BitPlan) is None
    facts.put(model, BitPlan({"a": Choice(DType.parse("int4:g32"), "uniform")}))
    newer = BitPlan({"a": Choice(DType.parse("int8:row"), "asked for")})
    facts.put(model, newer)
    assert facts.get(model, BitPlan) is newer
    assert facts.get(model, Skipped) is None
    facts.put(model, Skipped({"b": "Conv has no low-bit kernel yet"}))
    assert [type(f).__name__ for f in facts.all_facts(model)] == ["BitPlan", "Skipped"]


def test_json(model: ir.Model) -> None:
    assert json.loads(facts.to_json(model)) == {}
    facts.put(model, BitPlan({"a": Choice(DType.parse("int4:g32"), "uniform")}))
    facts.put(model, Rounding({"a": "mse"}, {"a": 0.25}))
    assert json.loads(facts.to_json(model)) == {
        "BitPlan": {"choices": {"a": {"type": "int4:g32", "reason": "uniform"}}},
        "Rounding": {
            "methods": {"a": "mse"},
            "errors": {"a": 0.25},
            "output_errors": {},
            "notes": {},
            "calibrated": {},
            "whole": "",
        },
    }


def test_dump(model: ir.Model, golden: Callable[[str], None]) -> None:
    """Initializers, attributes, absent inputs, subgraphs, other domains."""
    golden(dump_text(model))


def test_dump_low_bit(golden: Callable[[str], None]) -> None:
    text = "g (float[M, 64] x) => (float[M, 8] y) { y = MatMul(x, w) }"
    weight = random(64, 8) * 0 + 1  # exact: the golden text holds the rounding error
    golden(dump_text(quantized(graph(text, {"w": weight}), "uint4:g32:zp")))
