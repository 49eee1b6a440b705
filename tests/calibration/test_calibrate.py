"""The inputs of a rounding method: how much data, and the method that it starts from."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from ladder.calibration import calibrate
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.ir.facts import Hessians, PreRounded
from ladder.options.sites import SiteOptions
from ladder.passes.rounding.methods import METHODS, Method, Needs, Start, WholeModel

TYPES = {"fc": DType.parse("int4:g32")}
SOURCE = Source(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10), "empty", "empty")
HESSIANS = Hessians(text="collected")


def first(source: Source, data: int, types: dict[str, DType], begun: Hessians) -> PreRounded:
    assert types == TYPES
    return PreRounded(note=f"first on {data} from {begun.text}")


def second(source: Source, data: int, types: dict[str, DType], begun: PreRounded) -> PreRounded:
    return PreRounded(note=f"second on {data} from {begun.note}")


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods for a whole model; the data is the number of tokens asked for."""
    start = Start("one", 2000)
    for row in (
        Method("one", "", Needs.MODEL, tokens=1000, whole=WholeModel(f"{__name__}:first")),
        Method(
            "two", "", Needs.MODEL, tokens=5000, whole=WholeModel(f"{__name__}:second", start=start)
        ),
    ):
        monkeypatch.setitem(METHODS, row.name, row)
    monkeypatch.setattr(calibrate, "data_of", lambda _, options: options.windows * options.tokens)
    monkeypatch.setattr(calibrate, "collect", lambda _, data: Hessians(tokens=data))


def options(rounding: str, windows: int = 1) -> SiteOptions:
    return SiteOptions(rounding=rounding, windows=windows, tokens=100)


@pytest.mark.parametrize(
    ("rounding", "windows", "tokens"),
    [("one", 1, 1000), ("one", 30, 3000), ("two", 1, 2000), ("two", 30, 2000)],
)
def test_hessians_are_from_the_data_of_the_method(rounding: str, windows: int, tokens: int) -> None:
    found = calibrate.hessians_of(SOURCE, options(rounding, windows))
    assert found is not None and found.tokens == tokens


def test_methods_that_need_no_hessians_have_none() -> None:
    for row in METHODS.values():
        found: Any = calibrate.hessians_of(SOURCE, options(row.name))
        assert (found is None) == (row.needs is Needs.NOTHING)


def test_a_method_starts_from_another() -> None:
    one, two = (
        calibrate.pre_rounded_of(SOURCE, options(n), TYPES, HESSIANS) for n in ("one", "two")
    )
    assert one.note == "first on 1000 from collected"
    assert two.note == "second on 5000 from first on 2000 from collected"
    more = calibrate.pre_rounded_of(SOURCE, options("two", 90), TYPES, HESSIANS)
    assert more.note == "second on 9000 from first on 2000 from collected"


def test_plans_are_evaluated_by_the_method_it_starts_from() -> None:
    assert {name: METHODS[name].planned_as for name in ("one", "two", "mse")} == {
        "one": "one",
        "two": "one",
        "mse": "mse",
    }
