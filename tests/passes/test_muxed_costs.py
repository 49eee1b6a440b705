"""The cost of outliers in an allocation: the chunks that they take, in bytes and in time."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import MuxedSite, Muxing, ProductCosts, Sensitivity
from ladder.passes.allocate_bits import problem_of

TYPES = ("int4:g32", "int8:row", "nf4:g32")
K, N = 96, 32


def model() -> ir.Model:
    text = f'g (float[3, {K}] x) => (float[3, {N}] y) {{ y = MatMul(x, "fc.weight") }}'
    made: ir.Model = ir.from_proto(graph(text, {"fc.weight": random(K, N)}))
    facts.put(made, Sensitivity("kl", {"fc": {t: {"kl": 1.0} for t in TYPES}}))
    times = {t: {f"{N}x{K}": 1e-3} for t in TYPES}
    facts.put(made, ProductCosts(times, times))
    return made


def options(made: ir.Model) -> dict[str, Mapping[str, float]]:
    (part,) = problem_of(made)[0].parts
    return {option.type: option.costs for option in part.options}


def test_outliers_cost_the_chunks_that_they_take() -> None:
    """Two channels take a chunk in int8:row, one in each of two groups; a book is not muxed."""
    made = model()
    plain = options(made)
    facts.put(made, Muxing({"fc": MuxedSite("digits6", (5, 40))}))
    muxed = options(made)
    for type, chunks in (("int8:row", 1), ("int4:g32", 2), ("nf4:g32", 0)):
        extra = chunks * 16 / K
        assert muxed[type]["seconds"] == pytest.approx(plain[type]["seconds"] * (1 + extra))
        assert muxed[type]["prefill"] == pytest.approx(plain[type]["prefill"] * (1 + extra))
        more = extra * DType.parse(type).bits * K * N
        assert muxed[type]["bits"] == plain[type]["bits"] + round(more)
