"""Names that were documented say what they are called now."""

from __future__ import annotations

import importlib
import sys

import pytest

import ladder
from ladder.ir import facts
from ladder.support.moved import MOVED, Finder


@pytest.mark.parametrize("name", MOVED)
def test_an_old_module_says_its_new_name(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"{name} is now {MOVED[name]}$"):
        importlib.import_module(name)
    importlib.import_module(MOVED[name])


def test_other_modules_are_unknown_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ladder\.nowhere'"):
        importlib.import_module("ladder.nowhere")
    assert sum(isinstance(finder, Finder) for finder in sys.meta_path) == 1
    assert ladder.__version__


def test_old_facts_say_their_new_name() -> None:
    with pytest.raises(AttributeError, match="LeftAlone is now Skipped"):
        _ = facts.LeftAlone
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = facts.Nothing
