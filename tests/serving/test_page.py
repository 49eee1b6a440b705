"""The page of a server on a phone: it asks for the key, and shows what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, opened
from server_thread import loaded, serving

pytestmark = [pytest.mark.models, pytest.mark.kernels]
PHONE = 390  # pixels
KEY = "a key"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def url(tiny_artifact: Path) -> Iterator[str]:
    with serving(loaded(tiny_artifact), api_key=KEY) as address:
        yield address


def test_on_a_phone(browser: Any, url: str) -> None:
    with opened(browser, url, width=PHONE, dark=True) as shown:
        page = shown.page
        page.locator("#model", has_text="API key").wait_for()  # asks for it
        shown.errors.clear()  # of the status 401
        page.fill("#key", KEY)
        page.locator("#key").blur()
        page.locator("#model", has_text="tiny").wait_for()
        page.fill("#tokens", "8")
        page.fill("#text", "hello")
        page.press("#text", "Enter")
        page.locator(".figures", has_text="tokens a second").wait_for()
        assert "prompt: 11 tokens · answer: 8 tokens" in page.locator(".figures").inner_text()
        assert page.locator(".assistant").text_content()
        page.fill("#text", "<b>more</b>")
        page.click("#send")
        page.locator(".figures", has_text="read before").wait_for()
        assert page.locator(".user").all_inner_texts() == ["hello", "<b>more</b>"]
        page.fill("#tokens", "500")
        page.fill("#text", "more")
        page.click("#send")
        page.locator(".error", has_text="maximum context length is 96 tokens").wait_for()
        page.click("#new")
        assert page.locator(".message").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light dark"
        assert {address.startswith((url, "data:")) for address in shown.loaded} == {True}
        assert all("400" in error for error in shown.errors)  # of the refusal
