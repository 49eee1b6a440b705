"""Relative links and anchors of every Markdown page lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_pages import DOCS, ROOT, name_of, pages, prose, without_blocks

LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")  # https:, mailto:
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
FILE = re.compile(r"`([\w.]+/[\w./]+\.(?:py|toml|json))`")
TEMPLATE = re.compile(r"\b[A-Z]{4,}\b")  # NAME.py stands for a file of any name


def broken(page: Path) -> list[str]:
    links = LINK.findall(prose(page.read_text(encoding="utf-8")))
    here = [link for link in links if not ELSEWHERE.match(link)]
    return [link for link in here if not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, part = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not part or part in anchors(target))


def anchors(page: Path) -> set[str]:
    text = without_blocks(page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in HEADING.findall(text)}


def anchor(heading: str) -> str:
    """The anchor of a heading, by the rule of GitHub."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c\n[x](#a-b-c) [y](#d) [z](no.md) `[n](l.md)` [w](https://a.b)\n")
    assert broken(page) == ["#d", "no.md"]


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    shown = [str(page.relative_to(DOCS)) for page in pages() if page.is_relative_to(DOCS)]
    assert sorted(shown) == sorted(named)


def test_files_that_pages_of_design_name_exist() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (DOCS / "design").glob("*.md")]
    named = {file for text in texts for file in FILE.findall(text) if not TEMPLATE.search(file)}
    assert named
    assert sorted(file for file in named if not (ROOT / file).exists()) == []
