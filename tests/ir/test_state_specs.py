"""States as values: initial values, JSON, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ladder.errors import LadderError
from ladder.ir.states import RECURRENT, ROWS, WINDOW, StateSpec

KEY = StateSpec("state.0.key", (1, 2, "context", 16), "float32", ROWS, 2)
RING = StateSpec("state.1.key", (1, 2, 8, 16), "float16", WINDOW, 2)
SUM = StateSpec("state.2.sum", (1, 4), "float32", RECURRENT, reset=-1.5)


@pytest.mark.parametrize("spec", [KEY, RING, SUM])
def test_json_and_back(spec: StateSpec) -> None:
    assert StateSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_next_state_has_a_name_of_its_own() -> None:
    assert KEY.next == "state.0.key.next"


def test_initial_values() -> None:
    key, ring, total = KEY.initial(5), RING.initial(5), SUM.initial(5)
    assert key.shape == (1, 2, 5, 16) and not key.any() and key.dtype == np.float32
    assert ring.shape == (1, 2, 8, 16) and ring.dtype == np.float16
    assert total.shape == (1, 4) and (total == -1.5).all()


def test_which_arrays_fit() -> None:
    assert KEY.fits(np.zeros((1, 2, 9, 16), np.float32))
    assert not KEY.fits(np.zeros((1, 3, 9, 16), np.float32))
    assert not KEY.fits(np.zeros((1, 2, 9), np.float32))
    assert not KEY.fits(np.zeros((1, 2, 9, 16), np.float16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ring"}, "unknown kind 'ring'; the kinds are rows, window, recurrent"),
        ({"heads": 2}, "unknown field 'heads'; the fields are name, shape, dtype, kind, axis"),
        ({"shape": None}, "'shape' is None, not list"),
        ({"shape": [1, 2.5]}, "an entry of 'shape' is 2.5, not int | str"),
        ({"shape": [1, True, 3]}, "an entry of 'shape' is True, not int | str"),
        ({"shape": [1, 0, 3]}, "its shape is [1, 0, 3]: sizes must be positive"),
        ({"dtype": "float33"}, "unknown type 'float33'"),
        ({"axis": None}, "a state of kind rows must have an axis and no reset value"),
        ({"reset": 0}, "a state of kind rows must have an axis and no reset value"),
        ({"axis": 4}, "axis 4 is not one of its 4"),
        ({"kind": RECURRENT}, "a recurrent state must have a reset value and no axis"),
    ],
)
def test_refusals_name_the_state_and_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LadderError) as caught:
        StateSpec.from_json(KEY.to_json() | changes)
    assert str(caught.value).startswith(f"state 'state.0.key': {message}")


@pytest.mark.parametrize("name", ["shape", "dtype", "kind", "axis", "reset"])
def test_a_missing_field_is_named(name: str) -> None:
    row = {key: value for key, value in KEY.to_json().items() if key != name}
    with pytest.raises(LadderError, match=f"state 'state.0.key': '{name}' is missing"):
        StateSpec.from_json(row)


def test_a_value_that_is_not_an_object() -> None:
    with pytest.raises(LadderError, match=r"'state\.0\.key' is not an object"):
        StateSpec.from_json("state.0.key")


def test_a_reset_value_for_each_part() -> None:
    spec = StateSpec("state.0.wkv", (1, 2, 3), "float32", RECURRENT, reset=(0.0, -5.0))
    assert spec.initial(7).tolist() == [[[0, 0, 0], [-5, -5, -5]]]
    assert StateSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(LadderError, match=r"state 'x': 3 reset values do not fit axis 1"):
        StateSpec("x", (1, 2, 3), "float32", RECURRENT, reset=(0.0, 1.0, 2.0))
