"""A server of an artifact that runs in a thread of the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ladder.runtime
from ladder.options.serving import ServeOptions
from ladder.runtime.generation import Generation
from ladder.runtime.language_model import LanguageModel
from ladder.serving.application import application
from ladder.serving.server import Server, address_of, listen

SECONDS = 30  # longer than anything takes on a busy machine


def loaded(artifact: Path) -> LanguageModel:
    model = ladder.runtime.load(artifact)
    assert isinstance(model, LanguageModel)
    return model


@contextmanager
def serving(model: LanguageModel, **options: Any) -> Iterator[str]:
    """The URL of a server that runs in a thread."""
    asked = ServeOptions(port=0, name="tiny", **options)
    started, reports = threading.Event(), list[Generation]()
    with listen(asked.host, asked.port) as listening:
        server = Server(application(model, asked, reports.append), asked, started.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        assert started.wait(SECONDS)
        try:
            yield address_of(listening)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()
