"""Requests of OpenAI's protocol: what is read of them, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ladder.serving.protocol import Asked, read_request
from ladder.serving.refusal import Refusal

USER = {"role": "user", "content": "hello"}


def chat(**fields: Any) -> Asked:
    return read_request(json.dumps({"messages": [USER], **fields}).encode(), True)


def completion(**fields: Any) -> Asked:
    return read_request(json.dumps({"prompt": "hello", **fields}).encode(), False)


def test_a_chat() -> None:
    asked = chat(model="m", max_completion_tokens=5, stop="x", top_k=3, temperature=1, user="me")
    assert asked.messages == (USER,) and asked.source == "messages" and asked.model == "m"
    assert asked.limit == 5 and asked.stop == ("x",) and not asked.stream
    assert asked.sampling == {"top_k": 3, "temperature": 1.0}
    assert chat(stream=True, stream_options={"include_usage": True}).include_usage


def test_a_completion() -> None:
    assert completion().prompt == completion(prompt=["hello"]).prompt == "hello"
    assert completion(prompt=[1, 2]).prompt == completion(prompt=[[1, 2]]).prompt == (1, 2)
    assert completion(max_tokens=7, stop=["a", "b"]).stop == ("a", "b")


def test_fields_that_change_nothing_are_taken() -> None:
    neutral = {"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}}
    plain = chat()
    assert chat(**neutral, logprobs=False, tools=[], response_format={"type": "text"}) == plain
    assert chat(seed=None, logprobs=None, temperature=None) == plain  # as clients send them


def test_messages_as_clients_send_them_back() -> None:
    parts = [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]
    system = {"role": "developer", "content": parts}
    given = {"role": "assistant", "content": "", "refusal": None, "tool_calls": None}
    asked = chat(messages=[system, given])
    assert asked.messages == (
        {"role": "system", "content": "be kind"},
        {"role": "assistant", "content": ""},
    )


@pytest.mark.parametrize(
    ("fields", "param", "code", "message"),
    [
        ({"strem": True}, "strem", "unknown_parameter", "did you mean 'stream'"),
        ({"n": 2}, "n", "unsupported_value", "n is 2, which this server does not do"),
        ({"n": True}, "n", "unsupported_value", "n is True"),
        ({"logprobs": True}, "logprobs", "unsupported_value", "logprobs is True"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_value", "is 0.5"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_value", "leave it out"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_value", ""),
        ({"max_tokens": 0}, "max_tokens", "invalid_value", "give a positive number"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value", "give a whole number"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", None, "either"),
        ({"temperature": "hot"}, "temperature", "invalid_value", "give a number"),
        ({"temperature": float("nan")}, "temperature", "invalid_value", "give a number"),
        ({"seed": True}, "seed", "invalid_value", "give a whole number"),
        ({"stream": 1}, "stream", "invalid_value", "give true or false"),
        ({"stop": [""]}, "stop", "invalid_value", "a list of at most 16"),
        ({"stop": ["a"] * 17}, "stop", "invalid_value", "a list of at most 16"),
        ({"stream_options": {}}, "stream_options", None, "needs stream: true"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "unknown_parameter", "x"),
        ({"messages": []}, "messages", "invalid_value", "give a list of messages"),
        ({"messages": ["a"]}, "messages[0]", "invalid_value", "a role and a content"),
        ({"messages": [{"role": "poet"}]}, "messages[0].role", "invalid_value", "one of system"),
        ({"messages": [{**USER, "name": "x"}]}, "messages", "unknown_parameter", "[0].name"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value", "a text"),
        ({"messages": [{**USER, "content": [{"type": "image_url"}]}]}, "messages[0].content",
         "invalid_value", "parts of the type text"),
        ({"messages": [{**USER, "content": "\ud800"}]}, "messages[0].content", "invalid_value",
         "whole characters"),
        ({"messages": None}, "messages", "missing_required_parameter", "is missing"),
    ],
)  # fmt: skip
def test_refusals(fields: dict[str, Any], param: str, code: str | None, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        chat(**fields)
    error = refused.value.body()["error"]
    assert refused.value.status == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and error["code"] == code and message in error["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ["a", "b"]}, "one prompt in each request"),
        ({"prompt": []}, "one prompt"),
        ({"prompt": [1, "a"]}, "a whole number"),
        ({"prompt": 7}, "a text"),
        ({"logprobs": 0}, "logprobs is 0"),
        ({"echo": True}, "echo is True"),
        ({"messages": [USER]}, "unknown field 'messages'"),
    ],
)
def test_refusals_of_completions(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        completion(**fields)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[1]", b"[" * 100_000, b'{"n":' + b"1" * 9999]
)
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(Refusal, match="the body is not"):
        read_request(body, True)


def test_a_value_without_end_is_shown_in_short() -> None:
    """At any depth that the parser of JSON can follow."""
    for depth in range(900, 1000, 7):
        body = b'{"messages": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(Refusal) as refused:
            read_request(body, True)
        assert len(str(refused.value)) < 200
