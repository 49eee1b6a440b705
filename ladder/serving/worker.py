"""One thread that computes: it takes jobs from a bounded queue, one after another."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.runtime.generation import Generation
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.prefix import PrefixReuse
from ladder.runtime.sampling import Sampling
from ladder.serving.refusal import OVERLOADED, Refusal

Event = str | Generation | Exception  # a piece of text; at the end, its figures or an error


class Cancelled(Exception):
    """The client has gone."""


@dataclass(frozen=True)
class Work:
    """What is to be generated."""

    tokens: Sequence[int]
    limit: int
    sampling: Sampling
    stop: tuple[str, ...]


class Job:
    """Work, and where its events go. ``send`` is called in the worker's thread."""

    def __init__(self, work: Work, send: Callable[[Event], None]) -> None:
        self.work, self.send = work, send
        self.cancelled = False

    def check(self) -> None:
        """Called before each step of the model."""
        if self.cancelled:
            raise Cancelled


class Worker:
    """Runs jobs on a model that nothing else uses. ``places`` jobs may wait."""

    def __init__(self, model: LanguageModel, places: int) -> None:
        self.model, self.places = model, places
        self._reuse = PrefixReuse(model)
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._last_seconds = 0.0
        self._thread = threading.Thread(target=self._work, name="ladder-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Add a job to the queue; refuse it if that is full."""
        with self._changed:
            if self._closed:
                raise _closing()
            if len(self._waiting) + (self._running is not None) > self.places:
                raise Refusal(
                    f"the queue is full: {self.places} requests are waiting; try again later",
                    status=503,
                    kind=OVERLOADED,
                    code="queue_full",
                    retry_after=max(1, math.ceil(self._last_seconds)),
                )
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """End a job that runs, and free the place of one that waits; else do nothing."""
        with self._changed:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)

    def state(self) -> dict[str, int]:
        """How many jobs run and wait."""
        with self._changed:
            return {"running": int(self._running is not None), "waiting": len(self._waiting)}

    def close(self) -> None:
        """Cancel all jobs, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.send(_closing())
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._run(job)
            finally:
                with self._changed:
                    self._running = None

    def _next(self) -> Job | None:
        """Wait for a job; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            if self._closed:
                return None
            self._running = self._waiting.popleft()
            return self._running

    def _run(self, job: Job) -> None:
        self.model.before_call = job.check
        work = job.work
        try:
            made = self._reuse.generation(work.tokens, work.limit, work.sampling, work.stop)
            for piece in made:
                job.send(piece)
            self._last_seconds = made.seconds
            job.send(made)
        except Cancelled:
            job.send(_closing())  # nobody reads it if the client has gone
        except Exception as error:  # it is of this job: the next ones may succeed
            job.send(error)


def _closing() -> Refusal:
    return Refusal("the server is shutting down", status=503, kind=OVERLOADED)
