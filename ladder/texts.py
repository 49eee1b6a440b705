"""A text that a package ships: articles of Wikipedia, in the test data of gensim."""

from __future__ import annotations

import bz2
import re
from pathlib import Path

WIKIPEDIA = ("gensim==4.4.0", "enwiki-latest-pages-articles1.xml-*.bz2")


def wiki_text(path: Path) -> str:
    """Plain text of the articles in a MediaWiki dump: markup stripped, redirects left out."""
    import xml.etree.ElementTree as ElementTree

    with bz2.open(path) as file:
        pages = [e.text or "" for e in ElementTree.parse(file).iter() if e.tag.endswith("}text")]
    articles = [p for p in pages if p and not p.upper().startswith("#REDIRECT")]
    return "\n\n".join(_strip_markup(article) for article in articles)


def _strip_markup(text: str) -> str:
    for _ in range(5):  # templates nest
        text = re.sub(r"\{\{[^{}]*\}\}", "", text)
    for pattern, kept in (
        (r"<ref[^>/]*/>|<ref[^>]*>.*?</ref>|<!--.*?-->|<[^>]+>", ""),
        (r"\{\|.*?\|\}", ""),
        (r"\[\[(?:File|Image|Category):[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]", ""),
        (r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1"),
        (r"\[https?://\S+ ?([^\]]*)\]", r"\1"),
        (r"'{2,}", ""),
        (r"\n{3,}", "\n\n"),
    ):
        text = re.sub(pattern, kept, text, flags=re.S)
    return text.strip()
