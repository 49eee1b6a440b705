"""Finds an object by the text ``module:name``, importing the module when it is needed."""

from __future__ import annotations

import importlib
from typing import Any


def named(text: str) -> Any:
    """The function or class with this name."""
    module, _, attribute = text.partition(":")
    return getattr(importlib.import_module(module), attribute)
