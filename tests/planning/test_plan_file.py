"""The plan file: what is written is read back, edits count, mistakes are refused clearly."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Sensitivity, Skipped
from ladder.ir.site import find_sites
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.plan_file import plan_of, put_plan, read_plan, write_plan

TYPES = ("int3:g32", "int8:row")
DIGEST = "d1" * 32
TEXT = """g (float[M, 32] x) => (float[M, 64] y) {
  a = MatMul(x, "up_proj.weight")
  b = MatMul(a, "down_proj.weight")
  t = Transpose<perm=[1, 0]>("head.weight")
  c = Gemm<transB=1>(b, "head.weight")
  d = MatMul(b, t)
  y = Add(c, d)
}"""


@pytest.fixture
def model() -> ir.Model:
    weights = {
        "up_proj.weight": random(32, 96),
        "down_proj.weight": random(96, 32),
        "head.weight": random(64, 32),
    }
    made: ir.Model = ir.from_proto(graph(TEXT, weights))
    scores = {
        s.name: {t: {"kl": 0.5**i * 0.1**j} for j, t in enumerate(TYPES)}
        for i, s in enumerate(find_sites(made)[0])
    }
    facts.put(made, Sensitivity("kl", scores))
    return made


@pytest.fixture
def written(model: ir.Model, tmp_path: Path) -> Path:
    """A plan with a kept site, as made by allocation."""
    path = tmp_path / "plans" / "plan.toml"
    run_passes(model, parse_pipeline("allocate-bits{bpw=20,keep=up_proj}"))
    plan = plan_of(model, 'a "model"\n.onnx', DIGEST, types=list(TYPES), rules=[])
    write_plan(path, plan)
    return path


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert re.search(old, text, re.M), f"{old} is not in:\n{text}"
    path.write_text(re.sub(old, new, text, count=1, flags=re.M))
    return path


def test_round_trip(model: ir.Model, written: Path) -> None:
    wanted, alone = facts.get(model, BitPlan), facts.get(model, Skipped)
    assert wanted is not None and alone is not None
    plan = read_plan(written)
    assert plan.origin == 'a "model"\n.onnx' and plan.digest == DIGEST
    assert plan.asked["budget"] == "bpw 20" and plan.asked["types"] == list(TYPES)
    assert plan.predicted["metric"] == "kl" and plan.predicted["bpw"] > 8
    assert set(plan.uniform) == set(TYPES) and plan.uniform["int8:row"]["bpw"] > 8
    put_plan(model, plan, DIGEST)
    again, left = facts.get(model, BitPlan), facts.get(model, Skipped)
    assert again is not None and left is not None
    assert {n: c.type for n, c in again.choices.items()} == {
        n: c.type for n, c in wanted.choices.items()
    }
    assert left.reasons == {"up_proj": "kept by --keep"} == alone.reasons
    assert {n: c.reason for n, c in again.choices.items()} == {
        n: c.reason for n, c in wanted.choices.items()
    }


def test_the_text_says_why(written: Path) -> None:
    text = written.read_text()
    assert re.search(r'^"up_proj" = "fp32"  # mlp.up: kept by --keep$', text, re.M)
    assert re.search(
        r"^\"down_proj\" = \"int8:row\"  # mlp.down: KL 0\.\d+ at int8:row; int3", text, re.M
    )
    assert "tied to" in text and tomllib.loads(text)["format"] == 1
    assert not list(written.parent.glob(".*"))


def test_an_edit_counts(model: ir.Model, written: Path) -> None:
    edit(written, r'^"down_proj" = ".*?".*$', '"down_proj" = "q4_0"')
    put_plan(model, read_plan(written), DIGEST)
    plan = facts.get(model, BitPlan)
    assert plan is not None and plan.choices["down_proj"].type == DType.parse("q4_0")
    reason = plan.choices["down_proj"].reason
    assert reason.startswith("plan plan.toml; edited, it was planned as int8:row: KL 0.0")


def test_plans_without_reasons(model: ir.Model, written: Path) -> None:
    """A plan of an earlier version has none; neither does one from which they were removed."""
    edit(written, r"(?s)^\[reasons\].*", "")
    put_plan(model, read_plan(written), DIGEST)
    plan, left = facts.get(model, BitPlan), facts.get(model, Skipped)
    assert plan is not None and plan.choices["down_proj"].reason == "plan plan.toml"
    assert left is not None and left.reasons == {"up_proj": "kept by plan plan.toml"}


def test_a_file_in_the_way(model: ir.Model, written: Path, tmp_path: Path) -> None:
    plan = read_plan(written)
    with pytest.raises(LadderError, match=r"is a folder; give a file, for example -o plan\.toml"):
        write_plan(tmp_path, plan)
    write_plan(written, plan)
    assert read_plan(written) == plan


BROKEN = [
    (r"^format = 1", "format = 9", "plan format 9; this version of Ladder reads 1"),
    (r"^\[sites\]", "[places]", r"the table \[sites\] is missing; make the plan again"),
    (r"^\[model\]", "model = 3\n[other]", r"the table \[model\] is missing"),
    (r"^\[sites\]", "[sites", "not a plan in TOML: .*line"),
    (r'^"down_proj" = "int8:row"', '"down_proj" = 8', "site down_proj: the type must be a string"),
    (
        r'^"down_proj" = "int8:row"',
        '"down_proj" = "int9:row"',
        "site down_proj: unknown type 'int9",
    ),
    (r'^"down_proj" = "int8:row"', '"down_proj" = ""', "site down_proj: unknown type ''"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=lambda v: v[:24])
def test_broken_files(written: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(LadderError, match=message) as caught:
        read_plan(edit(written, old, new))
    assert str(caught.value).startswith(f"{written}: ")


STALE = [
    (r'^"down_proj".*\n', "", r"has no type for sites of the model: down_proj$"),
    (r"^\[sites\]", '[sites]\n"lm" = "int8:row"', "names sites that are not in the model: lm$"),
    (
        r'^"head" = "int8:row"',
        '"head" = "int3:g32"',
        "head and head#2 share a weight and need the same type; they have int3:g32 and int8:row",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), STALE, ids=["missing", "unknown", "shared"])
def test_plans_that_do_not_fit(
    model: ir.Model, written: Path, old: str, new: str, message: str
) -> None:
    plan = read_plan(edit(written, old, new))
    with pytest.raises(LadderError, match=message):
        put_plan(model, plan, DIGEST)


def test_a_plan_of_another_model(model: ir.Model, written: Path) -> None:
    facts.put(model, BitPlan({}))
    with pytest.raises(
        LadderError, match=r"(?s)made for another model .*digest d1d1d1d1d1d1; this one has"
    ):
        put_plan(model, read_plan(written), "e2" * 32)
    assert facts.get(model, BitPlan) == BitPlan({})


def test_many_sites_are_not_listed(model: ir.Model, written: Path) -> None:
    names = "\n".join(f'"s{i}" = "int8:row"' for i in range(9))
    plan = read_plan(edit(written, r"^\[sites\]", f"[sites]\n{names}"))
    with pytest.raises(LadderError, match=r"not in the model: s0, s1, s2 and 6 more$"):
        put_plan(model, plan, DIGEST)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="no such plan file; make one with ladder plan"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LadderError, match="not a plan in TOML"):
        read_plan(tmp_path / "binary.toml")
