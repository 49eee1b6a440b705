"""Guides and reference are in plain words: none that only the authors of the code would know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_pages import DOCS, name_of, prose

PAGES = sorted(page for shelf in ("guide", "reference") for page in (DOCS / shelf).glob("*.md"))
# Old words of sentences, and what to write.
WORDS = {
    r"wish(es|ed)?": "options",
    r"told": "reported",
    r"beside": "next to",
    r"behind": "after",
    r"goes? on where": "resumes",
    r"cannot be meant": "invalid combination",
    r"(makes?|making) good": "compensates for",
    r"in the plan's company|in the company of": "with the rest of the plan applied",
    r"one's own": "your own",
    r"cannot be had": "is not possible",
    r"K-blocks?": "scale block",
    r"(the )?more, the (more|fewer)": "a whole sentence",
    r"sums say little": "the additive prediction is unreliable",
    r"that the model has not": "that are not in the model",
}
# Old names of the code, also where they stand as code.
NAMES = ("Wish", "FileWish", "PlanWish", "put_costs")


def found(text: str) -> list[str]:
    words = [m[0] for word in WORDS for m in re.finditer(rf"\b{word}\b", prose(text), re.I)]
    return words + [name for name in NAMES if re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_no_old_word(page: Path) -> None:
    assert found(page.read_text(encoding="utf-8")) == []


def test_an_old_word_is_found() -> None:
    assert found("It goes on where it was, `beside` the Wish.\n\n    told\n") == [
        "Wish",
        "goes on where",
        "Wish",
    ]
