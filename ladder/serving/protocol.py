"""Requests of OpenAI's protocol, read and checked. What is not known or not done is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from ladder.runtime.chat import ROLES, Message
from ladder.serving.refusal import Refusal
from ladder.support.documents import is_number, parse_json
from ladder.support.suggest import did_you_mean

MESSAGES, PROMPT = "messages", "prompt"
MOST_STOPS = 16
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
DEVELOPER, SYSTEM = "developer", "system"  # two names of one role


@dataclass(frozen=True)
class Asked:
    """A request: a chat has messages, a completion a prompt, which is a text or tokens.

    ``limit`` is the number of tokens at most, or None; ``sampling`` has what was given of it.
    """

    model: str | None
    messages: tuple[Message, ...]
    prompt: str | tuple[int, ...]
    limit: int | None
    stop: tuple[str, ...]
    sampling: Mapping[str, Any]
    stream: bool
    include_usage: bool

    @property
    def source(self) -> str:
        """The field that has what is to be continued."""
        return MESSAGES if self.messages else PROMPT


def read_request(body: bytes, chat: bool) -> Asked:
    """A request from its JSON text. Fields that are null count as absent."""
    try:
        row = parse_json(body)
    except ValueError as error:
        raise Refusal(f"the body is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise Refusal("the body is not a JSON object")
    given = {name: value for name, value in row.items() if value is not None}
    readers = READERS | (OF_CHAT if chat else OF_COMPLETIONS)
    for name in given:
        if name not in readers:
            near = did_you_mean(name, readers)
            raise Refusal(f"unknown field '{name:.60}'{near}", name[:60], code="unknown_parameter")
    read = {name: readers[name](name, value) for name, value in given.items()}
    return _asked(chat, read)


def _asked(chat: bool, read: Mapping[str, Any]) -> Asked:
    source = MESSAGES if chat else PROMPT
    if source not in read:
        raise Refusal(f"'{source}' is missing", source, code="missing_required_parameter")
    if "stream_options" in read and not read.get("stream"):
        raise Refusal("stream_options needs stream: true", "stream_options")
    if "max_tokens" in read and "max_completion_tokens" in read:
        raise Refusal("give either max_tokens or max_completion_tokens", "max_tokens")
    return Asked(
        model=read.get("model"),
        messages=read.get(MESSAGES, ()),
        prompt=read.get(PROMPT, ""),
        limit=read.get("max_completion_tokens", read.get("max_tokens")),
        stop=read.get("stop", ()),
        sampling={name: read[name] for name in SAMPLING if name in read},
        stream=read.get("stream", False),
        include_usage=read.get("stream_options", False),
    )


def _wrong(name: str, wanted: str, value: Any) -> Refusal:
    return Refusal(f"{name} is {short(value)}: give {wanted}", name, code="invalid_value")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a text", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a pair of surrogates
        raise _wrong(name, "a text of whole characters", value) from error
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise _wrong(name, "a number", value)
    return float(value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "a whole number", value)
    return value


def _positive(name: str, value: Any) -> int:
    if _whole(name, value) < 1:
        raise _wrong(name, "a positive number", value)
    return int(value)


def _stops(name: str, value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MOST_STOPS or "" in texts:
        raise _wrong(name, f"a text, or a list of at most {MOST_STOPS}", value)
    return tuple(_text(name, text) for text in texts)


def _stream_options(name: str, value: Any) -> bool:
    """Whether the usage is asked for."""
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    unknown = sorted(set(value) - {"include_usage"})
    if unknown:
        raise Refusal(f"unknown field '{name}.{unknown[0]:.60}'", name, code="unknown_parameter")
    return _flag(f"{name}.include_usage", value.get("include_usage", False))


def _only(*neutral: Any) -> Callable[[str, Any], None]:
    """A field that this server takes only where it changes nothing."""

    def read(name: str, value: Any) -> None:
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool)
                   for one in neutral):  # fmt: skip
            raise Refusal(
                f"{name} is {short(value)}, which this server does not do: leave it out",
                name,
                code="unsupported_value",
            )

    return read


def _prompt(name: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, list)):
        value = value[0]
    if isinstance(value, list) and value and not isinstance(value[0], (str, list)):
        return tuple(_whole(name, token) for token in value)
    if isinstance(value, list):
        raise _wrong(name, "one prompt in each request", value)
    return _text(name, value)


def _messages(name: str, value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(name, "a list of messages", value)
    return tuple(_message(f"{name}[{i}]", row) for i, row in enumerate(value))


def _message(name: str, row: Any) -> Message:
    if not isinstance(row, dict):
        raise _wrong(name, "an object with a role and a content", row)
    given = {key: value for key, value in row.items() if value not in (None, [])}
    unknown = sorted(set(given) - {"role", "content"})
    if unknown:
        raise Refusal(f"unknown field '{name}.{unknown[0]:.60}'", MESSAGES,
                      code="unknown_parameter")  # fmt: skip
    role = given.get("role")
    if role == DEVELOPER:
        role = SYSTEM
    if role not in ROLES:
        raise _wrong(f"{name}.role", f"one of {', '.join((*ROLES, DEVELOPER))}", role)
    return {"role": role, "content": _content(f"{name}.content", given.get("content"))}


def _content(name: str, value: Any) -> str:
    """A text, or the texts of a list of parts."""
    if not isinstance(value, list):
        return _text(name, value)
    return "".join(_part(name, part) for part in value)


def _part(name: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or set(part) != {"type", "text"}:
        raise _wrong(name, "a text, or parts of the type text", part)
    return _text(name, part["text"])


def refuse_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    """Refuse tokens of a prompt that the model does not have."""
    if any(not 0 <= token < vocabulary for token in tokens):
        raise Refusal(f"a token of the prompt is outside the vocabulary of {vocabulary}", PROMPT)


Reader = Callable[[str, Any], Any]
READERS: dict[str, Reader] = {
    "model": _text,
    "stream": _flag,
    "stream_options": _stream_options,
    "max_tokens": _positive,
    "stop": _stops,
    "temperature": _number,
    "top_p": _number,
    "top_k": _whole,
    "min_p": _number,
    "repetition_penalty": _number,
    "seed": _whole,
    "user": _text,  # who asks: it changes nothing
    "n": _only(1),
    "frequency_penalty": _only(0),
    "presence_penalty": _only(0),
    "logit_bias": _only({}),
}
OF_CHAT: dict[str, Reader] = {
    MESSAGES: _messages,
    "max_completion_tokens": _positive,
    "logprobs": _only(False),
    "top_logprobs": _only(0),
    "response_format": _only({"type": "text"}),
    "tools": _only([]),
    "tool_choice": _only("none"),
    "functions": _only([]),
}
OF_COMPLETIONS: dict[str, Reader] = {
    PROMPT: _prompt,
    "logprobs": _only(),
    "best_of": _only(1),
    "echo": _only(False),
    "suffix": _only(""),
}
