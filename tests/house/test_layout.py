"""The folders at the root import as ``ladder.*`` through three links."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["passes", "codegen", "runtime"])
def test_link_leads_to_its_root_folder(name: str) -> None:
    link = ROOT / "ladder" / name
    assert link.is_symlink(), f"{link} is not a link: ln -s ../{name} {link}"
    assert link.resolve() == ROOT / name
    assert (link / "__init__.py").is_file()
