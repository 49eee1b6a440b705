"""Progress of long work: the code that works reports here, the code that shows it listens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]  # (what, done, total); total 0 if it is not known

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send all progress within the ``with`` block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(what: str, done: int, total: int) -> None:
    """Report to the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Iterate over ``items`` and report after each."""
    report(what, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        report(what, done, len(items))


@contextmanager
def stage(what: str) -> Iterator[None]:
    """A step whose length is not known in advance."""
    report(what, 0, 0)
    yield
    report(what, 1, 1)


def note(text: str) -> None:
    """Say on stderr what the user should know of, next to the result."""
    print(f"ladder: note: {text}", file=sys.stderr)
