"""What a text ``module:name`` names, imported when it is first needed."""

from __future__ import annotations

import importlib
from typing import Any


def named(text: str) -> Any:
    """The function or class."""
    module, _, attribute = text.partition(":")
    return getattr(importlib.import_module(module), attribute)
