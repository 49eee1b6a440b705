"""A real server of the tiny model, called by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from server_thread import SECONDS, loaded, serving

from ladder.runtime.language_model import LanguageModel
from ladder.runtime.sampling import Sampling
from ladder.serving import worker

pytestmark = [pytest.mark.models, pytest.mark.kernels]
TOKENS, CLIENTS = 12, 32
KEY = "a key"


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> LanguageModel:
    """The model that servers use."""
    return loaded(tiny_artifact)


@pytest.fixture(scope="module")
def alone(tiny_artifact: Path) -> LanguageModel:
    """The same model, to ask it without a server."""
    return loaded(tiny_artifact)


@pytest.fixture(scope="module")
def url(model: LanguageModel) -> Iterator[str]:
    with serving(model, queue=CLIENTS) as address:
        yield address


def client_of(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=SECONDS)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with client_of(url) as opened:
        yield opened


def generated(model: LanguageModel, prompt: str, **how: Any) -> str:
    model.reset()
    return model.generate(prompt, TOKENS, **how)


def user(content: str) -> Any:
    return [{"role": "user", "content": content}]


def test_completions(client: OpenAI, alone: LanguageModel) -> None:
    made = client.completions.create(model="tiny", prompt="hello", max_tokens=TOKENS)
    assert made.choices[0].text == generated(alone, "hello")
    assert made.object == "text_completion" and made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (5, TOKENS)
    tokens = client.completions.create(model="tiny", prompt=alone.encode("hello"), max_tokens=3)
    assert made.choices[0].text.startswith(tokens.choices[0].text)


def test_chats(client: OpenAI, alone: LanguageModel) -> None:
    ask = client.chat.completions.create
    made = ask(model="tiny", messages=user("hi there"), max_completion_tokens=TOKENS)
    answer = made.choices[0].message
    assert made.object == "chat.completion" and answer.role == "assistant"
    assert answer.content == alone.chat(user("hi there"), TOKENS)
    longer = [*user("hi there"), answer.model_dump(), *user("more")]
    more = ask(model="tiny", messages=longer, max_tokens=TOKENS)
    asked = [*user("hi there"), {"role": "assistant", "content": answer.content}, *user("more")]
    assert more.choices[0].message.content == alone.chat(asked, TOKENS)
    assert more.usage is not None and more.usage.prompt_tokens_details is not None
    assert (more.usage.prompt_tokens_details.cached_tokens or 0) > len("<u>hi there<a>")


def test_streams(client: OpenAI, alone: LanguageModel) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": user("hi"), "max_tokens": TOKENS}
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == alone.chat(user("hi"), TOKENS)
    assert [c.choices[0].finish_reason for c in chunks[-2:]] == [None, "length"]
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage is None
    with_usage = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    *_, last = with_usage
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == TOKENS
    pieces = client.completions.create(model="tiny", prompt="hi", max_tokens=TOKENS, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == generated(alone, "hi")


def test_how_tokens_are_drawn(client: OpenAI, alone: LanguageModel) -> None:
    greedy = generated(alone, "hello")
    stop = greedy[4:6]
    made = client.completions.create(model="tiny", prompt="hello", max_tokens=TOKENS, stop=stop)
    assert made.choices[0].text == greedy[: greedy.index(stop)]
    assert made.choices[0].finish_reason == "stop"
    more: dict[str, Any] = {"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1}
    given: dict[str, Any] = {"temperature": 2.0, "top_p": 0.9, "seed": 3}
    warm = [
        client.completions.create(
            model="tiny", prompt="hello", max_tokens=TOKENS, extra_body=more, **given
        ).choices[0].text
        for _ in range(2)
    ]  # fmt: skip
    wanted = generated(alone, "hello", sampling=Sampling(**given, **more))
    assert warm == [wanted] * 2 and wanted != greedy


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "ladder"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_value"),
        ({"extra_body": {"beam": 2}}, "beam", "unknown_parameter"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"max_tokens": 90}, "prompt", "context_length_exceeded"),
        ({"max_tokens": 9999}, "max_tokens", None),
        ({"prompt": "x" * 97}, "prompt", "context_length_exceeded"),
        ({"prompt": ""}, "prompt", None),
        ({"prompt": [500]}, "prompt", None),
    ],
)
def test_refusals(client: OpenAI, given: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**{"model": "tiny", "prompt": "x" * 10, **given})
    assert error.value.param == param and error.value.code == code


def test_refusals_by_http(client: OpenAI) -> None:
    raw = client.with_options(max_retries=0).post
    for path, status in (("/none", 404), ("/models", 405), ("/completions", 400)):
        with pytest.raises(openai.APIStatusError) as error:
            raw(path, body={}, cast_to=object)
        assert error.value.status_code == status and error.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError) as error:
        raw("/completions", body={}, cast_to=object, options={"headers": {"Content-Type": "a/b"}})
    assert error.value.status_code == 415


def test_many_clients_at_once(url: str, alone: LanguageModel) -> None:
    prompts = [f"{i} is the number {i * i}" for i in range(CLIENTS)]

    async def ask(client: AsyncOpenAI, i: int) -> str:
        asked: dict[str, Any] = {"model": "tiny", "prompt": prompts[i], "max_tokens": TOKENS}
        if i % 2:
            return str((await client.completions.create(**asked)).choices[0].text)
        stream = await client.completions.create(**asked, stream=True)
        return "".join([piece.choices[0].text async for piece in stream])

    async def ask_all() -> list[str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(CLIENTS)))

    assert asyncio.run(ask_all()) == [generated(alone, prompt) for prompt in prompts]


def health(url: str) -> Any:
    with urlopen(f"{url}/health", timeout=SECONDS) as answer:
        return json.load(answer)


def wait_for(url: str, **wanted: int) -> None:
    end = time.monotonic() + SECONDS
    while health(url) != {"status": "ok", **wanted}:
        assert time.monotonic() < end, health(url)
        time.sleep(0.01)


def test_clients_that_go_free_the_queue(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, alone: LanguageModel
) -> None:
    gate, check = threading.Event(), worker.Job.check

    def gated(job: worker.Job) -> None:
        assert gate.wait(SECONDS)
        check(job)

    monkeypatch.setattr(worker.Job, "check", gated)
    with serving(model, queue=3) as url, client_of(url) as client:

        def stream() -> Callable[[], None]:
            ask = client.completions.create
            return ask(model="tiny", prompt="hello", max_tokens=TOKENS, stream=True).close

        go = [stream()]
        wait_for(url, running=1, waiting=0)
        go += [stream(), stream()]
        with pytest.raises(openai.APITimeoutError):  # a client that does not stream, and gives up
            client.with_options(timeout=0.3).completions.create(model="tiny", prompt="a")
        wait_for(url, running=1, waiting=2)
        go.append(stream())
        wait_for(url, running=1, waiting=3)
        with pytest.raises(openai.InternalServerError) as full:
            stream()
        assert full.value.status_code == 503 and full.value.response.headers["Retry-After"]
        for leave in go:
            leave()
        wait_for(url, running=1, waiting=0)
        gate.set()
        made = client.completions.create(model="tiny", prompt="hello", max_tokens=TOKENS)
        assert made.choices[0].text == generated(alone, "hello")
        wait_for(url, running=0, waiting=0)


def test_the_command(tiny_artifact: Path) -> None:
    """It wants the key, and ends with the answers that have begun."""
    words = [sys.executable, "-m", "ladder", "serve", str(tiny_artifact), "--port", "0"]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "LADDER_API_KEY": KEY}
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            url = line.removeprefix("Serving at ").strip()
            request = Request(f"{url}/", headers={"Accept": "text/html"})
            with urlopen(request, timeout=SECONDS) as page:
                assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            with client_of(url) as client:
                with pytest.raises(openai.AuthenticationError):
                    client.with_options(api_key="another").models.list()
                stream = client.chat.completions.create(
                    model="tiny", messages=user("hello"), stream=True
                )
                next(iter(stream))
                process.send_signal(signal.SIGINT)
                assert [c.choices[0].finish_reason for c in stream][-1] in ("length", "stop")
            said = process.stderr.read()
            assert process.wait(SECONDS) == 0 and said.endswith("Stopped.\n") and "a second" in said
        finally:
            process.kill()
