"""Text files, their tokens, and a text from a package (Wikipedia, in gensim's test data)."""

from __future__ import annotations

import bz2
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.errors import LadderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ladder.frontend.types import Source

WIKIPEDIA = ("gensim==4.4.0", "enwiki-latest-pages-articles1.xml-*.bz2")


def wiki_text(path: Path) -> str:
    """Plain text of the articles in a MediaWiki dump, without markup and redirects."""
    import xml.etree.ElementTree as ElementTree

    with bz2.open(path) as file:
        pages = [e.text or "" for e in ElementTree.parse(file).iter() if e.tag.endswith("}text")]
    articles = [p for p in pages if p and not p.upper().startswith("#REDIRECT")]
    return "\n\n".join(_strip_markup(article) for article in articles)


def _strip_markup(text: str) -> str:
    for _ in range(5):  # templates are nested
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


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; refuse anything else."""
    if not path.is_file():
        raise LadderError(f"{path}: no such text file")
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LadderError(
            f"{path}: not UTF-8 text (byte {error.start}); convert it first"
        ) from error
    if not content.strip():
        raise LadderError(f"{path}: empty; give some text to score")
    return content


def encode(source: Source, content: str) -> list[int]:
    """Encode a text with the source's tokenizer, with the tokens that begin and end a text."""
    return list(tokenizer_of(source).encode(content).ids)


def tokenizer_of(source: Source) -> Tokenizer:
    """The source's tokenizer."""
    if source.tokenizer is None:
        raise LadderError(f"{source.origin}: has no tokenizer, so no text can be scored")
    from tokenizers import Tokenizer

    return Tokenizer.from_str(source.tokenizer)


def without_special(tokenizer: Tokenizer, content: str) -> list[int]:
    """Encode a text without the tokens that begin and end it."""
    return list(tokenizer.encode(content, add_special_tokens=False).ids)


def start_of_text(tokenizer: Tokenizer) -> list[int]:
    """The tokens with which this tokenizer begins every text, such as BOS; often none."""
    alone, whole = without_special(tokenizer, "a"), list(tokenizer.encode("a").ids)
    places = range(len(whole) - len(alone) + 1)
    found = next((i for i in places if alone and whole[i : i + len(alone)] == alone), 0)
    return whole[:found]
