"""JSON and TOML that no parser can follow, and what counts as a number."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.support.documents import is_number, parse_json, parse_toml

DEEP = 100_000


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP])
def test_nested_json(text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text)


def test_nested_toml() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml("a = " + "[" * DEEP)


@pytest.mark.parametrize("text", ["", "{", "9" * 5000, "\ufeff1"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("value", [0, 1, -2.5, 10**300])
def test_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [True, False, None, "1", [1], math.nan, math.inf, 10**400])
def test_what_is_no_number(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\u2028b"])
def test_a_message_is_one_line(text: str) -> None:
    assert str(LadderError(f"site '{text}'")) == "site 'a b'"
