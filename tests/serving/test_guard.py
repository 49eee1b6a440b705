"""Who is let in: by the key, and on this machine by the name that a client calls."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from ladder.serving.guard import Guard, is_local


def status(path: str, headers: dict[str, str], key: str = "", local: bool = True) -> int:
    """The status that a request gets from a guarded application that answers 200."""
    found: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(Request(scope).url.path)(scope, receive, send)

    async def send(message: Message) -> None:
        found.extend([message["status"]] if "status" in message else [])

    async def receive() -> Message:
        return {"type": "http.request"}

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": raw, "query_string": b""}
    asyncio.run(Guard(app, key, local)(scope, receive, send))
    return found[0]


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000"])
def test_names_of_this_machine(host: str) -> None:
    assert status("/", {"host": host}) == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "", "[", "10.0.0.1"])
def test_other_names_are_refused_where_only_this_machine_may_call(host: str) -> None:
    assert status("/v1/models", {"host": host}) == 403
    assert status("/v1/models", {"host": host}, local=False) == 200


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("Bearer käse", 200), ("bearer käse", 200), ("Bearer kase", 401), ("Basic käse", 401),
     ("käse", 401), ("Bearer", 401), ("Bearer käse ", 401)],
)  # fmt: skip
def test_keys(header: str, wanted: int) -> None:
    given = {"host": "localhost", "authorization": header.encode().decode("latin-1")}
    assert status("/v1/models", given, "käse") == wanted
    assert status("/v1/models", {"host": "localhost"}, "käse") == 401
    assert status("/", {"host": "localhost"}, "käse") == 200


def test_addresses() -> None:
    assert is_local("127.0.0.1") and is_local("::1") and is_local("localhost")
    assert not is_local("0.0.0.0") and not is_local("::") and not is_local("")
