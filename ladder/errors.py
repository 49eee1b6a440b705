"""The errors that a user may see."""

from __future__ import annotations

import re

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 200  # characters of another package's message


class LadderError(Exception):
    """Bad input: the message is one line that says what, where and what to do.

    Texts of the user that it quotes may have several lines; they are joined.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).splitlines()))


class NothingToQuantize(LadderError):
    """The graph has no weight that may change type, or is low-bit already."""


def one_line(error: BaseException) -> str:
    """The first line of another package's error, without colours; its type where it is empty."""
    lines = COLOUR.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:LONGEST]}" if lines else type(error).__name__
