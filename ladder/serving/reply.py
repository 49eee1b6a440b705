"""The objects of an answer in OpenAI's protocol: whole, or in pieces."""

from __future__ import annotations

import time
import uuid
from typing import Any

from ladder.runtime.generation import Generation


class Reply:
    """An answer of the model ``model``; ``chat`` says by which of the two protocols."""

    def __init__(self, model: str, chat: bool) -> None:
        self._model, self._chat = model, chat
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time.time())

    def whole(self, made: Generation) -> dict[str, Any]:
        """The whole answer in one object."""
        message = {"role": "assistant", "content": made.text}
        content = {"message": message} if self._chat else {"text": made.text}
        return {**self._object(content, made.finish, ""), "usage": usage(made)}

    def begin(self) -> dict[str, Any] | None:
        """What comes before the first piece, if anything."""
        return self._piece({"role": "assistant", "content": ""}) if self._chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the text."""
        return self._piece({"content": text} if self._chat else text)

    def end(self, made: Generation) -> dict[str, Any]:
        """What comes after the last piece: why the text ends."""
        return self._piece({} if self._chat else "", made.finish)

    def usage(self, made: Generation) -> dict[str, Any]:
        """The usage, in an object without a piece."""
        return {**self.end(made), "choices": [], "usage": usage(made)}

    def _piece(self, content: Any, finish: str | None = None) -> dict[str, Any]:
        return self._object({"delta" if self._chat else "text": content}, finish, ".chunk")

    def _object(self, content: dict[str, Any], finish: str | None, suffix: str) -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self._chat else "text_completion"
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish}
        head = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return {**head, "choices": [choice]}


def usage(made: Generation) -> dict[str, Any]:
    """How many tokens there were; ``cached_tokens`` is how many of the prompt were not fed."""
    prompt = made.reused_tokens + made.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made.tokens,
        "total_tokens": prompt + made.tokens,
        "prompt_tokens_details": {"cached_tokens": made.reused_tokens},
    }
