"""Pages have every option: their tables are made from the schema when the site is built."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from markdown_pages import DOCS, pages


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("option_tables", DOCS / "option_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_on_a_page(hook: ModuleType) -> None:
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    asked = {name for text in texts for name in hook.MARK.findall(text)}
    assert asked == set(hook.TABLES)


def test_a_table_has_every_option(hook: ModuleType) -> None:
    text = hook.on_page_markdown("before\n\n<!-- options: compile -->\n\nafter")
    assert text.startswith("before\n\n| option | type | default | meaning |\n")
    assert "| `type` | `DType \\| str` | by the model | Type of all weights" in text
    assert "| `calib` | `Path \\| str \\| None` |  | Calibration data" in text
    assert text.count("\n| `") == len(hook.TABLES["compile"])
