"""Pipelines as text, the runner's checks, and what passes refuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.bind_shapes import BindShapes
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.infra.base import Facts, Pass, PassError, make
from ladder.passes.infra.registry import PASSES, parse_pipeline, pass_class
from ladder.passes.infra.runner import DumpObserver, TimingObserver, run_passes
from ladder.passes.lower_types import LowerTypes
from ladder.passes.round_weights import RoundWeights

MATMUL = "g (float[M, 64] x) => (float[M, 8] y) { y = MatMul(x, w) }"


@dataclass(frozen=True)
class Options(Pass):
    """One option of every kind."""

    number: int = 1
    ratio: float = 0.5
    flag: bool = False
    some_text: str = "a"

    def run(self, model: ir.Model) -> None: ...


@dataclass(frozen=True)
class Break(Pass):
    """Leaves an invalid model."""

    def run(self, model: ir.Model) -> None:
        model.graph.outputs.append(ir.Value(name="z"))


@dataclass(frozen=True)
class Forget(Pass):
    """Promises a plan and adds none."""

    gives: ClassVar[Facts] = (BitPlan,)

    def run(self, model: ir.Model) -> None: ...


@pytest.fixture
def model() -> ir.Model:
    made: ir.Model = ir.from_proto(graph(MATMUL, {"w": random(64, 8)}))
    return made


PRINTED = [
    (CleanUp(), "clean-up"),
    (CleanUp(limit=8), "clean-up{limit=8}"),
    (FuseOperators(), "fuse-operators"),
    (AllocateUniform(), "allocate-uniform"),
    (
        AllocateUniform(DType.parse("uint4:g32:zp"), ("lm_head",)),
        "allocate-uniform{type=uint4:g32:zp,keep=lm_head}",
    ),
    (AllocateUniform(keep=("lm_head", "*.down")), "allocate-uniform{keep=lm_head|*.down}"),
    (RoundWeights("rtn"), "round-weights{method=rtn}"),
    (BindShapes("batch:1/tokens:64"), "bind-shapes{dims=batch:1/tokens:64}"),
    (LowerTypes("table8", stop="pad"), "lower-types{activation=table8,stop=pad}"),
]


@pytest.mark.parametrize(("made", "text"), PRINTED, ids=lambda v: str(v))
def test_a_pass_prints_as_its_pipeline_text(made: Pass, text: str) -> None:
    assert str(made) == text
    (again,) = parse_pipeline(text)
    assert str(again) == text and type(again) is type(made)


def test_a_pipeline_is_its_passes() -> None:
    text = ",".join(text for _, text in PRINTED)
    assert ",".join(map(str, parse_pipeline(text))) == text
    assert parse_pipeline("") == []
    assert parse_pipeline(" clean-up , round-weights { method=rtn }"[:10]) == [CleanUp()]


def test_every_registered_pass_has_its_own_name() -> None:
    for name in PASSES:
        assert pass_class(name).pass_name() == name


def test_options_by_kind() -> None:
    texts = {"number": "3", "ratio": "2.5", "flag": "true", "some-text": "b:c"}
    made = make(Options, texts)
    assert made == Options(3, 2.5, True, "b:c")
    assert str(made) == "options{number=3,ratio=2.5,flag=true,some-text=b:c}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": "three"}, "pass options: number must be of type int, not 'three'"),
        ({"ratio": "x"}, "pass options: ratio must be of type float, not 'x'"),
        ({"flag": "yes"}, "pass options: flag must be true or false, not 'yes'"),
        ({"size": "1"}, "has no option 'size'; it has: number, ratio, flag, some-text"),
    ],
)
def test_malformed_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(LadderError, match=message):
        make(Options, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold", "^unknown pass 'fold'; one of: clean-up, fuse-operators, "),
        ("clean-up,fold", "^unknown pass 'fold'"),
        ("clean-up{depth=3}", "^pass clean-up has no option 'depth'; it has: limit"),
        ("fuse-operators{x=1}", "^pass fuse-operators has no option 'x'; it has: none"),
        ("clean-up{limit}", "^pass clean-up: option 'limit' has no value; write limit=VALUE"),
        ("clean-up{limit=x}", "^pass clean-up: limit must be of type int, not 'x'"),
        ("bind-shapes", r"^pass bind-shapes needs the option 'dims': write bind-shapes{dims="),
        ("clean-up{limit=3", r"^cannot read the pipeline at 'clean-up{limit=3'; write pass{"),
        ("clean-up;round-weights", "^cannot read the pipeline at 'clean-up;round-weights'"),
        ("CleanUp", "^cannot read the pipeline at 'CleanUp'"),
    ],
)
def test_malformed_pipelines(text: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        parse_pipeline(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("round-weights", "^pass round-weights needs BitPlan; ran: nothing"),
        ("clean-up,round-weights", "^pass round-weights needs BitPlan; ran: clean-up"),
        ("allocate-uniform{type=int9:row}", "^pass allocate-uniform: unknown type 'int9:row'"),
        ("allocate-uniform{type=fp32}", "type 'fp32' is a float: there is nothing to quantize to"),
        (
            "allocate-uniform,round-weights{method=ceil}",
            r"^pass round-weights \(number 2, after allocate-uniform\): "
            "unknown rounding 'ceil'; one of: rtn, mse",
        ),
        ("allocate-uniform{keep=lm_head}", "--keep 'lm_head' matches no site; .* sites are: y$"),
        (
            "lower-types{activation=int3}",
            "unknown activation mode 'int3'; one of: int8, int7",
        ),
        ("lower-types{scheme=magic}", "unknown scheme 'magic'; one of: auto, lut, dot"),
        ("bind-shapes{dims=N:3}", "no input has a dimension 'N'; the inputs have: M"),
        ("bind-shapes{dims=M:0}", "dimension 'M': '0' is not a positive number"),
        ("bind-shapes{dims=M:-1}", "dimension 'M': '-1' is not a positive number"),
        ("bind-shapes{dims=M}", "dimension 'M': '' is not a positive number"),
        ("bind-shapes{dims=M:3/N}", "no input has a dimension 'N'; the inputs have: M"),
        pytest.param(
            f"bind-shapes{{dims={'a' * 99_999}}}", "no input has a dimension 'aaa", id="long"
        ),
    ],
)
def test_refusals(model: ir.Model, text: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        run_passes(model, parse_pipeline(text))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    weight = random(64, 8)
    weight[5, 3] = value
    model = ir.from_proto(graph(MATMUL.replace("w)", '"fc1.weight")'), {"fc1.weight": weight}))
    message = "site fc1: its weight has NaN or infinity; check the model file, or keep the site"
    with pytest.raises(LadderError, match=message):
        run_passes(model, parse_pipeline("allocate-uniform,round-weights"))


def test_the_runner_verifies_after_each_pass(model: ir.Model) -> None:
    message = (
        r"^pass break \(number 2, after clean-up\) produced an invalid model: graph output %z is"
    )
    with pytest.raises(PassError, match=message):
        run_passes(model, [CleanUp(), Break(), CleanUp()])


def test_the_runner_checks_promised_facts(model: ir.Model) -> None:
    with pytest.raises(PassError, match=r"pass forget .* did not add its fact BitPlan"):
        run_passes(model, [Forget()])


def test_observers(model: ir.Model, tmp_path: Path) -> None:
    timing = TimingObserver()
    run_passes(
        model,
        [CleanUp(), AllocateUniform(DType.parse("int4:g32"))],
        [timing, DumpObserver(tmp_path)],
    )
    assert [text for text, _ in timing.rows] == ["clean-up", "allocate-uniform{type=int4:g32}"]
    assert all(seconds >= 0 for _, seconds in timing.rows)
    names = ["00-input.txt", "01-clean-up.txt", "02-allocate-uniform.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "fact BitPlan" in (tmp_path / names[2]).read_text()
