"""Reports: read by attribute and by name, saved as JSON; old names say the new one."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from ladder.passes.infra.registry import parse_pipeline
from ladder.support.results import MISSING, Result


@dataclass
class Report(Result):
    size: int
    skipped: list[str]
    front: str = MISSING


def test_attributes_names_and_json() -> None:
    report = Report(3, ["a"])
    assert report["size"] == report.size == 3
    assert dict(report) == report.to_json() == {"size": 3, "skipped": ["a"]}
    assert "front" not in report and len(report) == 2
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    report.front = "line"
    assert list(report) == ["size", "skipped", "front"]


def test_unknown_and_old_names() -> None:
    report = Report(3, [])
    with pytest.raises(KeyError, match="front"):
        report["front"]
    with pytest.raises(KeyError, match="left_alone is now called skipped"):
        report["left_alone"]


def test_the_old_name_of_a_pass_says_the_new_one() -> None:
    with pytest.raises(Exception, match="pass 'weight-second' is now called 'move-weight-to-rhs'"):
        parse_pipeline("weight-second")
