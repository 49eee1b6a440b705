"""``ladder serve``: a language model for clients of OpenAI's protocol, and a page to try it."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from ladder.cli import options as o
from ladder.cli.parameters import takes
from ladder.cli.show import err
from ladder.errors import LadderError
from ladder.options.schema import options_of
from ladder.options.serving import ServeOptions

EXTRA = ("starlette", "uvicorn")
INSTALL = "pip install 'ladder[serve]'"


@takes(ServeOptions)
def serve_command(
    artifact: o.Artifact,
    asked: dict[str, Any],
    verify_key: o.VerifyKey = None,
    threads: o.Threads = 0,
) -> None:
    """Serve a language model by OpenAI's protocol, with a page to try it."""
    from ladder.cli.running import language_model, speeds
    from ladder.runtime.artifact import Artifact

    try:
        from ladder.serving.server import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise LadderError(f"a server needs {error.name}: {INSTALL}") from error
    o.set_threads(threads)
    options = options_of(ServeOptions, asked)
    model = language_model(Artifact.load(artifact, verify_key))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    with contextlib.suppress(KeyboardInterrupt):
        run(model, options, lambda made: _say(speeds(made)), _say)
    _say("Stopped.")


def _say(line: str) -> None:
    """One line on stderr, however long."""
    err.print(line, soft_wrap=True)
