"""A latency budget met by plans whose time is not a multiple of the prediction."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ladder.passes.allocation.budget import Budget
from ladder.passes.allocation.choose import allocate
from ladder.passes.allocation.problem import Option, Part, Picks, Problem
from ladder.planning.latency import AGREEMENT, PLANS, Held, hold

SIZES = {"int2:row": 2, "int4:row": 4, "int8:row": 8}
COUNT = 200


def problem() -> Problem:
    """Sites whose times add up to 2 to 8 ms."""
    options = [
        Option(
            type,
            {
                "loss": (1 + i % 7) / bits**2,
                "bits": bits,
                "seconds": 1e-3 * bits / COUNT,
                "prefill": 0.0,
            },
        )
        for i in range(COUNT)
        for type, bits in SIZES.items()
    ]
    parts = tuple(
        Part((f"site{i}",), "mlp.up", 1, tuple(options[3 * i : 3 * i + 3])) for i in range(COUNT)
    )
    return Problem(parts, tuple(SIZES), timed=True)


def held(clock: Callable[[float], float], asked: str) -> Held:
    made, budget = problem(), Budget.of({"latency": asked})

    def seconds_of(_: Problem, picks: Picks) -> float:
        return clock(made.totals(picks)["seconds"])

    return hold(made, allocate(made, budget), budget, seconds_of)


@pytest.mark.parametrize("asked", [3e-3, 4.5e-3, 6e-3])
@pytest.mark.parametrize("slope", [0.4, 0.8, 1.0, 2.0, 2.8])
def test_the_measured_time_is_the_one_asked(slope: float, asked: float) -> None:
    """Scaling by the ratio alone oscillates if the slope is 2 or more."""
    found = held(lambda predicted: asked + slope * (predicted - 1.07 * asked), f"{1e3 * asked}ms")
    assert abs(found.plan.seconds / asked - 1) <= AGREEMENT and not found.why
    assert found.plan.found.totals["seconds"] == pytest.approx(asked, rel=0.02)


def test_a_first_plan_within_the_limit_is_timed_once() -> None:
    assert held(lambda predicted: predicted, "5ms").plans == 1


def test_the_slowest_plan_may_be_faster_than_asked() -> None:
    found = held(lambda predicted: 0.5 * predicted, "7ms")
    assert found.plan.seconds == pytest.approx(4e-3) and found.plans == 2 and not found.why


def test_the_closest_plan_is_kept_and_reported_if_times_jump() -> None:
    found = held(lambda predicted: 4e-3 if predicted < 5e-3 else 6.5e-3, "5ms")
    assert found.plans == PLANS and found.plan.seconds == 4e-3 and "times vary" in found.why


def test_a_time_that_no_plan_has_is_reported() -> None:
    found = held(lambda predicted: predicted + 4e-3, "3ms")
    assert "least" in found.why and found.plans == 1
