"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

LEAST_LIKENESS = 0.6


def did_you_mean(word: str, known: Iterable[str], meanings: Mapping[str, str] | None = None) -> str:
    """``; did you mean 'gptq'?``, or nothing where no name is close.

    ``meanings`` says what is usually meant by names of other tools.
    """
    by_letters = {_letters(name): name for name in known}
    meant = {_letters(name): meaning for name, meaning in (meanings or {}).items()}
    asked = _letters(word)
    found = meant.get(asked) or by_letters.get(asked)
    if found is None:
        near = difflib.get_close_matches(asked, [*by_letters, *meant], 1, LEAST_LIKENESS)
        found = (by_letters | meant)[near[0]] if near else None
    return f"; did you mean '{found}'?" if found else ""


def _letters(name: str) -> str:
    """A name without what is often left out or written otherwise."""
    return re.sub(r"[\W_]+", "", name).lower()
