"""The page of ``ladder serve``, opened in a browser: a message is answered as the protocol does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from browser import chromium, opened
from server_thread import SECONDS, loaded, serving

pytestmark = [pytest.mark.models, pytest.mark.kernels]
TOKENS = 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def answer(url: str, messages: list[dict[str, str]]) -> str:
    """What the server answers without a browser."""
    asked = {"messages": messages, "temperature": 0, "max_tokens": TOKENS}
    headers = {"Content-Type": "application/json"}
    request = Request(f"{url}/v1/chat/completions", json.dumps(asked).encode(), headers)
    with urlopen(request, timeout=SECONDS) as response:
        text: str = json.load(response)["choices"][0]["message"]["content"]
    return text


def test_a_chat(browser: Any, tiny_artifact: Path) -> None:
    with serving(loaded(tiny_artifact)) as url, opened(browser, url, width=700) as served:
        page = served.page
        page.locator("#model", has_text="tiny").wait_for()
        page.locator("#settings summary").click()
        page.locator("#temperature").fill("0")
        page.locator("#tokens").fill(str(TOKENS))
        messages: list[dict[str, str]] = []
        for number, text in enumerate(("Hello", "And then?")):
            page.locator("#text").fill(text)
            page.locator("#send").click()
            page.locator(".figures", has_text="answer: ").nth(number).wait_for()
            messages.append({"role": "user", "content": text})
            shown = page.locator(".assistant").nth(number).text_content()
            assert shown == answer(url, messages)
            messages.append({"role": "assistant", "content": shown})
        assert page.locator(".user").all_text_contents() == ["Hello", "And then?"]
        assert served.errors == []
        assert all(address.startswith((url, "data:")) for address in served.loaded)
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
