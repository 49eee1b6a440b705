"""A job from the side of the event loop: its events as they come, and its end with its client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ladder.runtime.generation import Generation
from ladder.serving.worker import Event, Job, Work, Worker


class Ticket:
    """A job in the queue of ``worker``. Whoever holds it cancels it when its client has gone."""

    def __init__(self, worker: Worker, work: Work) -> None:
        self._worker = worker
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._job = Job(work, self._send)
        worker.submit(self._job)

    def _send(self, event: Event) -> None:
        """Called in the worker's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the client with it
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def cancel(self) -> None:
        self._worker.cancel(self._job)

    async def events(self) -> AsyncIterator[str | Generation]:
        """Yield the pieces of the text, then the figures."""
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, Generation):
                return

    async def whole(self) -> Generation:
        """The finished generation."""
        async for event in self.events():
            if isinstance(event, Generation):
                return event
        raise AssertionError("a job ended without its figures")
