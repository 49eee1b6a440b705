"""Refuses requests before anything is read of them: by the name of the host, and by the key."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ladder.serving.refusal import UNAUTHORIZED, Refusal

NEEDS_KEY = "/v1"
LOCAL = "localhost"


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == LOCAL


class Guard:
    """Calls ``app`` for requests that may pass.

    A server that only this machine can reach is also called by pages that a browser of this machine
    shows, under names that lead to this machine: those other than its own are refused.
    """

    def __init__(self, app: ASGIApp, key: str, local: bool) -> None:
        self._app, self._key, self._local = app, key.encode(), local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        app = self._app if refusal is None else answer(refusal)
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        request = Request(scope)
        if self._local and not is_local(_name_of(request.headers)):
            return Refusal("this name is not one of this server; call it localhost", status=403)
        if self._key and request.url.path.startswith(NEEDS_KEY) and not self._has_key(request):
            return Refusal(
                "give the server's API key in the header 'Authorization: Bearer KEY'",
                status=401,
                code="invalid_api_key",
                kind=UNAUTHORIZED,
            )
        return None

    def _has_key(self, request: Request) -> bool:
        # The bytes of headers are read as latin-1.
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(
            key.encode("latin-1"), self._key
        )


def answer(refusal: Refusal) -> JSONResponse:
    """A refusal as a response."""
    return JSONResponse(refusal.body(), refusal.status, refusal.headers)


def _name_of(headers: Mapping[str, str]) -> str:
    """The host that a client called, without the port."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # an address that is none
        return ""
