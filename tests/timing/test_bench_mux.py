"""The benchmark of muxed products: what it runs in turns, and what it refuses."""

from __future__ import annotations

import time

import pytest

from ladder.errors import LadderError
from ladder.timing.muxed import Run, bench_mux, in_turns


def test_runs_take_turns_and_their_calls_are_counted_on() -> None:
    """Each call has its own number, by which the copies of weights rotate."""
    seen: list[tuple[str, int]] = []

    def run_of(name: str) -> Run:
        return lambda i: seen.append((name, i))

    runs = [run_of(name) for name in "ab"]
    times = in_turns(runs, 0.0, 3, time.perf_counter)
    assert [len(found) for found in times] == [3, 3]
    for name in "ab":
        assert [i for other, i in seen if other == name] == [0, 0, 1, 2]  # the first warms up
    assert [name for name, _ in seen[2:]] == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(
    ("type", "mode", "outliers", "mux", "words"),
    [
        ("nf4:g64", "int8:tensor", 0.01, "digits6", "is a code book"),
        ("int8:row", "int8:tensor", 1.5, "digits6", "give a share of K"),
        ("int8:row", "int4:tensor", 0.01, "digits6", "does not fit int4:tensor"),
        ("int8:row", "table8", 0.01, "digits6", "has no integer codes"),
        ("int8:row", "int8:tensor", 0.01, "digit6", "write for example digits7"),
    ],
)
def test_refusals(type: str, mode: str, outliers: float, mux: str, words: str) -> None:
    with pytest.raises(LadderError, match=words):
        bench_mux(type, "1x64x512", mode, "dot", "native", outliers, mux)
