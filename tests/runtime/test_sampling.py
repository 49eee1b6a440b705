"""Which tokens may be drawn, and how often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ladder.errors import LadderError
from ladder.runtime.sampler import Sampler
from ladder.runtime.sampling import Sampling, sampling_from

LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
REFUSED = {
    "temperature nan: give 0 or more": {"temperature": float("nan")},
    "top_p 0: give more than 0": {"top_p": 0},
    "min_p 2: give 0 to 1": {"min_p": 2},
    "top_k -1": {"top_k": -1},
    "seed -1": {"seed": -1},
    "repetition_penalty 0: give more than 0": {"repetition_penalty": 0},
}


def drawn(times: int = 400, before: tuple[int, ...] = (), **options: Any) -> np.ndarray:
    """How often each token is drawn."""
    sampler = Sampler(Sampling(**{"temperature": 1.0, **options}))
    return np.bincount([sampler.draw(LOGITS, before) for _ in range(times)], minlength=4)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 4),
        ({"top_k": 2}, 2),
        ({"top_k": 9}, 4),
        ({"top_p": 0.5}, 2),
        ({"top_p": 0.71}, 3),
        ({"min_p": 0.4}, 3),
        ({"min_p": 1.0}, 1),
        ({"temperature": 0.0}, 1),
        ({"top_k": 3, "top_p": 0.75}, 2),  # of the three, two share 7/9
    ],
)
def test_tokens_that_are_kept(options: dict[str, Any], kept: int) -> None:
    counts = drawn(**options)
    assert (counts[:kept] > 0).all() and not counts[kept:].any()


def test_shares_are_the_probabilities() -> None:
    np.testing.assert_allclose(drawn(4000) / 4000, [0.4, 0.3, 0.2, 0.1], atol=0.03)
    squared = np.array([0.16, 0.09, 0.04, 0.01]) / 0.3
    np.testing.assert_allclose(drawn(4000, temperature=0.5) / 4000, squared, atol=0.03)


def test_the_same_seed_draws_the_same() -> None:
    assert (drawn(seed=3) == drawn(seed=3)).all() and (drawn(seed=3) != drawn(seed=4)).any()


def test_repetitions_are_less_likely() -> None:
    counts = drawn(before=(0, 0, 1), repetition_penalty=10.0)
    assert counts[:2].sum() < 20 < counts[3]
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    greedy = Sampler(Sampling(repetition_penalty=1.2))
    assert [greedy.draw(logits, b) for b in ([], [0], [0, 1])] == [0, 1, 0]


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(message: str) -> None:
    with pytest.raises(LadderError, match=message):
        Sampling(**REFUSED[message])  # type: ignore[arg-type]


def test_what_is_asked_for_counts_before_advice() -> None:
    advised = {"temperature": 0.6, "top_k": 20.0, "max_length": 9.0}
    assert sampling_from({}, advised) == Sampling(temperature=0.6, top_k=20)
    asked = {"temperature": 0, "top_k": None, "seed": 3}
    assert sampling_from(asked, advised) == Sampling(temperature=0, top_k=20, seed=3)
