"""Lowering: which kernel each product gets and why, and the rungs of its weight."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, meaning, op_types, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Kernels, Machine
from ladder.ir.site import SCHEME_KEY
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.passes.kernel_choice import choose, rungs_of

PRODUCT = 'g (float[3, 40] x) => (float[3, 10] y) { y = MatMul(x, "fc.weight") }'
MEASURED = Machine(
    "here", {"int4": {"lut": {1: 1e-3, 128: 9e-2}, "dot": {1: 2e-3, 128: 8e-3}}}, "4096x4096"
)
WITH_TILES = replace(MEASURED, schemes=("lut", "dot", "tile"))


def lowered(type: str, options: str = "", machine: Machine = MEASURED) -> ir.Model:
    """A lowered product; every comparison is between models with the same rounded weight."""
    model = ir.from_proto(graph(PRODUCT, {"fc.weight": random(40, 10)}))
    facts.put(model, machine)
    text = f"allocate-uniform{{type={type}}},round-weights{{method=rtn}},lower-types{options}"
    return run_passes(model, parse_pipeline(text))


@pytest.mark.parametrize("stop", ["planes", "pad", "repack"])
@pytest.mark.parametrize("type", ["int3:g16", "nf4:g20", "uint4:row:zp", "ternary:g8", "int1:g8"])
def test_rungs_change_nothing(type: str, stop: str) -> None:
    plain, shown = lowered(type), lowered(type, f"{{stop={stop}}}")
    steps = {"planes": 1, "pad": 2, "repack": 3}[stop]
    added = [op for op in op_types(shown) if op.endswith("Planes")]
    assert len(added) == 2 * steps and not any(op.endswith("Planes") for op in op_types(plain))
    feeds = {"x": random(3, 40, seed=1)}
    for a, b in zip(meaning(shown, feeds), meaning(plain, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("type", ["fp4_e2m1:g8", "ternary:tensor", "int4:g32:e8m0"])
@pytest.mark.parametrize("mode", ["int8", "table8", "fp32"])
def test_every_mode_gives_nearly_the_same(type: str, mode: str) -> None:
    feeds = {"x": random(3, 40, seed=1)}
    got = meaning(lowered(type, f"{{activation={mode}}}"), feeds)
    exact = meaning(lowered(type, "{activation=fp32}"), feeds)
    assert np.abs(got[0] - exact[0]).max() <= 0.03 * np.abs(exact[0]).max()


def test_measured_times_decide() -> None:
    one, many = (choose(DType.parse("int4:g128"), "int8", m, MEASURED) for m in (1, 100))
    assert (one.scheme, many.scheme) == ("lut", "dot")
    assert one.reason == "lut 1 ms, dot 2 ms at M=1 (4096x4096)"
    assert many.reason == "dot 8 ms, lut 90 ms at M=128 (4096x4096)"


def test_without_measurements_a_rule_decides() -> None:
    dtype = DType.parse("int2:g64")
    one, many = (choose(dtype, "int8", m, MEASURED) for m in (1, 64))
    assert (one.scheme, one.reason) == ("lut", "fewer than 4 tokens (a rule, not measured)")
    assert (many.scheme, many.reason) == ("dot", "4 tokens or more (a rule, not measured)")


@pytest.mark.parametrize(
    ("type", "mode", "scheme", "activation", "reason"),
    [
        ("nf4:g64", "int8", "dot", "int8", "^codes are looked up in registers"),
        (
            "nf4:g64",
            "table8",
            "dot",
            "int8",
            "^table8 sums bit planes, and nf4 has none .its codes index a code book",
        ),
        ("ternary:g64", "table8", "dot", "int8", "^table8 sums .* ternary has none .five digits"),
        ("int4:g64", "table8", "lut", "table8", "^table8 is computed by look-ups"),
        ("int4:g64", "fp32", "fp32", "fp32", "^activations stay float"),
    ],
)
def test_reasons(type: str, mode: str, scheme: str, activation: str, reason: str) -> None:
    chosen = choose(DType.parse(type), mode, 1, Machine())
    assert (chosen.scheme, chosen.activation) == (scheme, activation)
    assert re.search(reason, chosen.reason), chosen.reason


@pytest.mark.parametrize(
    ("type", "few"), [("int2:g64", "lut"), ("nf4:g64", "dot"), ("ternary:g64", "dot")]
)
def test_many_tokens_take_matrix_tiles_where_there_are_any(type: str, few: str) -> None:
    one, many = (choose(DType.parse(type), "int8", m, WITH_TILES) for m in (1, 16))
    assert (one.scheme, one.reason) == (few, "fewer than 4 tokens (a rule, not measured)")
    assert (many.scheme, many.reason) == ("tile", "4 tokens or more (a rule, not measured)")


def test_tiles_are_taken_where_they_measure_best() -> None:
    costs = {"int4": {**MEASURED.costs["int4"], "tile": {1: 3e-3, 128: 2e-3}}}
    machine = replace(WITH_TILES, costs=costs)
    one, many = (choose(DType.parse("int4:g128"), "int8", m, machine) for m in (1, 128))
    assert (one.scheme, many.scheme) == ("lut", "tile")
    assert many.reason == "tile 2 ms, dot 8 ms, lut 90 ms at M=128 (4096x4096)"


@pytest.mark.parametrize(
    ("type", "scheme", "reason"),
    [
        ("int2:g64", "tile", "tile was asked for, which here has no kernels for; 4 tokens or more"),
        ("nf4:g64", "tile", "codes are .*; tile was asked for, which here has no kernels for$"),
        ("nf4:g64", "lut", "codes are .*; lut was asked for$"),
    ],
)
def test_an_unsupported_scheme_is_reported(type: str, scheme: str, reason: str) -> None:
    chosen = choose(DType.parse(type), "int8", 16, MEASURED, scheme)
    assert chosen.scheme == "dot"
    assert re.search(f"^{reason}", chosen.reason), chosen.reason


def test_tiles_have_no_operator_of_their_own() -> None:
    """The exported IR is the same; the node says how it is computed."""
    dot, tile = (lowered("int4:g8", f"{{scheme={s}}}", WITH_TILES) for s in ("dot", "tile"))
    assert op_types(dot) == op_types(tile)
    found = [n.metadata_props.get(SCHEME_KEY) for n in tile.graph if n.op_type == "DotGemm"]
    assert found == ["tile"]


def test_the_choice_of_every_site_is_a_fact() -> None:
    kernels = facts.get(lowered("nf4:g20"), Kernels)
    assert kernels is not None and kernels.choices["fc"].scheme == "dot"


def test_rungs_of_a_type() -> None:
    dtype = DType.parse("fp4_e2m1:g32:e8m0")
    steps = rungs_of(dtype, choose(dtype, "int8", 1, Machine()))
    assert steps["ahead"] == ["split bit planes", "pad", "repack"]
    assert steps["in_registers"][1] == "look up code book (1 byte digits, exact)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{activation=int3}", "^pass lower-types .*unknown activation mode 'int3'; one of: int8"),
        ("{scheme=magic}", "unknown scheme 'magic'; one of: auto, lut, dot, tile"),
        ("{stop=here}", "unknown stop 'here'; one of: planes, pad, repack"),
    ],
)
def test_refusals(options: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        lowered("int4:g8", options)


def test_a_later_rule_wins() -> None:
    model = ir.from_proto(graph(PRODUCT, {"fc.weight": random(40, 10)}))
    run_passes(model, parse_pipeline("allocate-uniform{rules=*=fp32|fc=int8:row}"))
    plan = facts.get(model, facts.BitPlan)
    assert plan is not None and plan.choices["fc"].type == DType.parse("int8:row")
    run_passes(model, parse_pipeline("allocate-uniform{rules=fc=int8:row|*=fp32}"))
    alone = facts.get(model, facts.Skipped)
    assert alone is not None and alone.reasons == {"fc": "rule *=fp32"}


def test_rules_and_ties() -> None:
    text = """g (int64[5] i, float[3, 8] x) => (float[5, 8] e, float[3, 20] y, float[3, 8] z) {
        e = Gather("table", i)
        t = Transpose<perm = [1, 0]>("table")
        y = MatMul(x, t)
        z = MatMul(x, "fc.weight")
    }"""
    model = ir.from_proto(graph(text, {"table": random(20, 8), "fc.weight": random(8, 8)}))
    run_passes(model, parse_pipeline("allocate-uniform{type=int4:g8,rules=e=nf4:g8}"))
    plan = facts.get(model, facts.BitPlan)
    assert plan is not None
    types = {str(choice.type): choice.reason for choice in plan.choices.values()}
    assert types["int4:g8"] == "uniform"
    reasons = sorted(c.reason for c in plan.choices.values() if str(c.type) == "nf4:g8")
    assert reasons[0] == "rule e=nf4:g8" and reasons[1] == "rule e=nf4:g8, tied to e"
    run_passes(model, parse_pipeline("round-weights{method=rtn}"))
    codes = [name for name in model.graph.initializers if name.endswith(".codes")]
    assert len(codes) == 2  # the tied weight is one
    with pytest.raises(
        LadderError, match=r"--rule 'fc=fp16': float weights are not converted; write fp32"
    ):
        run_passes(model, parse_pipeline("allocate-uniform{rules=fc=fp16}"))
    with pytest.raises(LadderError, match="--rule 'nobody' matches no site; the first sites are"):
        run_passes(model, parse_pipeline("allocate-uniform{rules=nobody=int4:g8}"))
    with pytest.raises(LadderError, match="--rule 'fc': write PATTERN=TYPE, for example"):
        run_passes(model, parse_pipeline("allocate-uniform{rules=fc}"))
