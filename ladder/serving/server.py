"""Runs the application until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from ladder.errors import LadderError
from ladder.options.serving import ServeOptions
from ladder.runtime.language_model import LanguageModel
from ladder.serving.application import Report, application
from ladder.serving.guard import is_local

WAITING_CONNECTIONS = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; an address that cannot be used is refused."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=WAITING_CONNECTIONS)
    except OSError as error:
        what = (error.strerror or str(error)).partition(" (")[0]
        raise LadderError(
            f"cannot listen on {host}, port {port}: {what}; give another --host or --port"
        ) from error


def address_of(listening: socket.socket) -> str:
    """The URL of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(
    model: LanguageModel, options: ServeOptions, report: Report, say: Callable[[str], object]
) -> None:
    """Serve ``model`` until Ctrl-C or SIGTERM. ``say`` gets lines for the person who runs it.

    ``report`` is called after each answer.
    """
    app = application(model, options, report)
    with listen(options.host, options.port) as listening:
        if not (options.api_key or is_local(options.host)):
            say(f"Warning: anybody who can reach {options.host} can use the model; set --api-key.")
        server = Server(app, options, lambda: say(f"Serving at {address_of(listening)}"))
        server.run(sockets=[listening])


class Server(uvicorn.Server):
    """A server that calls ``on_start`` when it takes requests."""

    def __init__(
        self, app: Starlette, options: ServeOptions, on_start: Callable[[], object]
    ) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=options.grace,
        )
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()
