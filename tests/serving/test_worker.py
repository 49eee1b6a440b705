"""The queue: one job at a time, in turn; places are bounded, and free when a client goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.runtime.sampling import Sampling
from ladder.serving.refusal import Refusal
from ladder.serving.worker import Event, Job, Work, Worker

SECONDS = 30


class Counting:
    """A model that counts on from its prompt, as fast as ``gate`` lets it."""

    def __init__(self) -> None:
        self.before_call: Callable[[], object] = lambda: None
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.position, self.context = 0, 100
        self.states = SimpleNamespace(rewindable=False)

    def reset(self) -> None:
        self.position = 0

    def stream(self, prompt: Sequence[int], limit: int, sampling: Sampling) -> Iterator[int]:
        if prompt[0] < 0:
            raise LadderError("negative")
        for i in range(limit):
            self.entered.set()
            assert self.gate.wait(SECONDS)
            self.before_call()
            yield prompt[-1] + 1 + i

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(f"{token} " for token in tokens)


class Client:
    """The events of a job."""

    def __init__(self, worker: Worker, token: int) -> None:
        self.events: list[Event] = []
        self.ended = threading.Event()
        self.job = Job(Work([token], 3, Sampling(), ()), self._take)
        worker.submit(self.job)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, str):
            self.ended.set()

    @property
    def text(self) -> str:
        assert self.ended.wait(SECONDS)
        return "".join(event for event in self.events if isinstance(event, str))


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture
def worker(model: Counting) -> Iterator[Worker]:
    made: Any = model
    worker = Worker(made, places=2)
    worker.start()
    yield worker
    model.gate.set()
    worker.close()


def test_jobs_run_in_turn_and_places_are_bounded(worker: Worker, model: Counting) -> None:
    first = Client(worker, 10)
    assert model.entered.wait(SECONDS)
    waiting = [Client(worker, 20), Client(worker, 30)]
    assert worker.state() == {"running": 1, "waiting": 2}
    with pytest.raises(Refusal, match="the queue is full: 2 requests are waiting") as refused:
        Client(worker, 40)
    assert refused.value.status == 503 and int(refused.value.headers["Retry-After"]) >= 1
    model.gate.set()
    assert [client.text for client in (first, *waiting)] == [
        "11 12 13 ", "21 22 23 ", "31 32 33 "
    ]  # fmt: skip


def test_a_client_that_goes_frees_its_place(worker: Worker, model: Counting) -> None:
    running = Client(worker, 10)
    assert model.entered.wait(SECONDS)
    waiting = [Client(worker, 20), Client(worker, 30)]
    worker.cancel(waiting[0].job)
    assert worker.state() == {"running": 1, "waiting": 1}
    worker.cancel(running.job)
    model.gate.set()
    assert waiting[1].text == "31 32 33 "
    assert running.text == "" and not waiting[0].events


def test_an_error_is_of_its_job(worker: Worker, model: Counting) -> None:
    model.gate.set()
    failed, fine = Client(worker, -1), Client(worker, 1)
    assert fine.text == "2 3 4 " and failed.ended.is_set()
    assert isinstance(failed.events[0], LadderError)


def test_closing_ends_every_job(worker: Worker, model: Counting) -> None:
    running = Client(worker, 10)
    assert model.entered.wait(SECONDS)
    waiting = Client(worker, 20)
    threading.Timer(0.05, model.gate.set).start()
    worker.close()
    for client in (running, waiting):
        assert client.text == "" and isinstance(client.events[0], Refusal)
    with pytest.raises(Refusal, match="shutting down"):
        Client(worker, 30)
