"""JSON and TOML from users: whatever cannot be read is a ``ValueError``."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

DEEP = "nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """The value of a text; a ``ValueError`` also where it is nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(DEEP) from error


def parse_toml(text: str) -> dict[str, Any]:
    """The same for TOML."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(DEEP) from error


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold, and no boolean."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
