"""Tokens become text as they come, in whole characters, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ladder.runtime.text_stream import TextStream


def streamed(decode: object, tokens: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(decode, stop)  # type: ignore[arg-type]
    pieces = []
    for token in tokens:
        pieces.append(stream.add(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.end()]


@pytest.fixture(scope="module")
def by_bytes() -> Tokenizer:
    """A tokenizer whose tokens are bytes, as those of byte-level models are."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@given(text=st.text(max_size=20).filter(lambda t: "\ufffd" not in t))
def test_pieces_make_the_text(by_bytes: Tokenizer, text: str) -> None:
    tokens = by_bytes.encode(text).ids
    pieces = streamed(by_bytes.decode, tokens)
    assert "".join(pieces) == text
    assert all(not piece.endswith("\ufffd") for piece in pieces)


def test_spaces_between_words_are_kept() -> None:
    """Decoders of sentencepiece strip the space before a first token."""
    words = ["▁the", "▁cat", "s", "▁sat"]

    def decode(tokens: Sequence[int]) -> str:
        return "".join(words[t] for t in tokens).replace("▁", " ").strip()

    assert streamed(decode, [0, 1, 2, 3]) == ["the", " cat", "s", " sat", ""]


def test_each_token_is_decoded_a_few_times() -> None:
    decoded = []

    def decode(tokens: Sequence[int]) -> str:
        decoded.append(len(tokens))
        return "x" * len(tokens)

    streamed(decode, range(500))
    assert sum(decoded) < 4 * 500


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ((), "abcabd"),
        (("d",), "abcab"),
        (("abd",), "abc"),
        (("bd", "ca"), "ab"),
        (("abde",), "abcabd"),
        (("",), "abcabd"),
        ("abd", "abc"),  # one text is not a sequence of characters
    ],
)
def test_stop_strings(stop: tuple[str, ...], shown: str) -> None:
    text = "abcabd"

    def decode(tokens: Sequence[int]) -> str:
        return "".join(text[t] for t in tokens)

    pieces = streamed(decode, range(6), stop)
    assert "".join(pieces) == shown
