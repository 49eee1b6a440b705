"""Tokens to text as they come: in whole characters, up to a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # what a decoder makes of a part of a character


class TextStream:
    """Decodes a stream of tokens. Each token is decoded a few times, not once for each later one.

    Decoding a token alone can give another text than after its neighbours (spaces, parts of a
    character), so the new text is what the last pieces have with it and do not have without it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        texts = [stop] if isinstance(stop, str) else stop
        self._decode, self._stop = decode, [text for text in texts if text]
        self._tokens: list[int] = []  # since the text was last whole, and the piece before
        self._shown = 0  # of these tokens, how many are in the text
        self._held = ""  # text that may be the beginning of a stop string
        self.stopped = False

    def add(self, token: int) -> str:
        """The text to show after one more token."""
        self._tokens.append(token)
        before = self._decode(self._tokens[: self._shown])
        now = self._decode(self._tokens)
        if now.endswith(INCOMPLETE) or len(now) <= len(before):
            return ""
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return self._released(self._held + now[len(before) :])

    def end(self) -> str:
        """The text that was held back."""
        rest, self._held = self._held, ""
        return rest

    def _released(self, text: str) -> str:
        """The text before a stop string; its possible beginning at the end is held back."""
        ends = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` begin ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
