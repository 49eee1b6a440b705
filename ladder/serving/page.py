"""The page to try the model with: one file without anything from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("page.html")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@cache
def page() -> str:
    """The page as HTML."""
    return FILE.read_text(encoding="utf-8")
