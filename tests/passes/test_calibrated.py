"""Rounding methods by name: which one a site gets, and what the report says about each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.facts import Hessians, Rounding
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.passes.rounding.hessian import hessian_of
from ladder.passes.rounding.methods import METHODS
from ladder.passes.rounding.one_weight import output_error, round_by

TYPES = ("int2:g32", "int3:row", "uint2:g32:zp", "nf4:g32", "ternary:g32", "int4:tensor", "mxfp4")
N, K = 24, 96


def weight_and_hessian(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations with a third as many factors as features."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4 * K, K // 3)) @ rng.standard_normal((K // 3, K))
    x += rng.standard_normal(x.shape)
    return rng.standard_normal((N, K)).astype(np.float32), (x.T @ x / len(x)).astype(np.float32)


@pytest.mark.parametrize("text", TYPES)
def test_the_best_is_no_worse_than_any(text: str) -> None:
    dtype = DType.parse(text)
    for seed in range(3):
        weight, hessian = weight_and_hessian(seed)
        errors = {
            name: output_error(weight, done.rounded, dtype, hessian)
            for name in METHODS
            for done in [round_by(name, weight, dtype, hessian)]
        }
        best = round_by("best", weight, dtype, hessian)
        assert errors["best"] == min(errors.values()) == best.output_errors[best.method]
        assert best.output_errors == {name: errors[name] for name in ("rtn", "mse", "gptq")}
        assert errors["gptq"] < errors["mse"] <= 1.05 * errors["rtn"]


def test_the_output_error_is_that_of_products() -> None:
    weight, _ = weight_and_hessian(0)
    x = np.random.default_rng(1).standard_normal((50, K)).astype(np.float32)
    dtype = DType.parse("int4:g32")
    done = round_by("mse", weight, dtype).rounded
    q = dequantized(dtype, done.codes, done.scale)
    reported = output_error(weight, done, dtype, x.T @ x)
    wanted = np.linalg.norm(x @ (weight - q).T) / np.linalg.norm(x @ weight.T)
    assert reported == pytest.approx(wanted, rel=1e-4)


def tied() -> ir.Model:
    """A table and a product that share a weight, and a product of its own."""
    text = """g (int64[4] i) => (float[4, 40] y) {
        e = Gather (w, i)  h = MatMul (e, m)  t = Transpose <perm = [1, 0]> (w)  y = MatMul (h, t)
    }"""
    model: ir.Model = ir.from_proto(graph(text, {"w": random(40, 32), "m": random(32, 32)}))
    return model


def test_a_table_adds_the_identity(tmp_path: Path) -> None:
    model = tied()
    by_op = {site.node.op_type: site for site in find_sites(model)[0]}
    head = find_sites(model)[0][-1]
    h = np.diag(np.arange(1, 33)).astype(np.float32)
    np.save(tmp_path / "h.npy", h)
    known = Hessians({head.name: str(tmp_path / "h.npy")}, {by_op["Gather"].name: "a table"})
    alone = hessian_of([head], known)
    both = hessian_of([by_op["Gather"], head], known)
    assert alone is not None and both is not None
    np.testing.assert_array_equal(alone, h)
    extra = both - h
    assert extra[0, 0] > 0
    np.testing.assert_allclose(extra, extra[0, 0] * np.eye(32), rtol=1e-4)
    assert hessian_of([by_op["Gather"]], known) is None


def test_the_pass_reports_everything(tmp_path: Path) -> None:
    model = tied()
    names = [site.name for site in find_sites(model)[0]]
    x = random(200, 32)
    np.save(tmp_path / "h.npy", x.T @ x)
    known = Hessians({names[1]: str(tmp_path / "h.npy")}, {names[0]: "no reason"}, 200, "a text")
    facts.put(model, known)
    run_passes(model, [AllocateUniform(DType.parse("int3:g32")), RoundWeights("gptq")])
    found = facts.get(model, Rounding)
    assert found is not None and facts.get(model, Hessians) is None
    assert found.calibrated == {"a text": 200}
    assert found.methods[names[1]] == "gptq" and found.methods[names[0]] == "mse"
    assert found.notes == {names[0]: "mse: no reason"}
    assert set(found.output_errors) == {names[1]}
    assert set(found.output_errors[names[1]]) == {"rtn", "mse", "gptq"}


@pytest.mark.parametrize("method", ["gptq", "best"])
def test_without_hessians_it_refuses(method: str) -> None:
    with pytest.raises(LadderError, match=f"'{method}' needs Hessians of the sites' inputs"):
        run_passes(tied(), [AllocateUniform(DType.parse("int3:g32")), RoundWeights(method)])


def test_a_stale_or_missing_file_is_refused(tmp_path: Path) -> None:
    site = find_sites(tied())[0][1]
    with pytest.raises(LadderError, match="cannot read its Hessian"):
        hessian_of([site], Hessians({site.name: str(tmp_path / "none.npy")}))
    np.save(tmp_path / "h.npy", np.eye(7))
    with pytest.raises(LadderError, match="is 7 x 7, not 32 x 32"):
        hessian_of([site], Hessians({site.name: str(tmp_path / "h.npy")}))
