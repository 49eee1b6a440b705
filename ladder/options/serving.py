"""Options of ``ladder serve``."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.options.schema import option, read_all

HIGHEST_PORT = 65535


@dataclass(frozen=True)
class ServeOptions:
    """Options of ``ladder serve``."""

    host: str = option(
        "127.0.0.1", "Address to listen on; with another one, give --api-key as well."
    )
    port: int = option(8000, "Port to listen on (0: any free one).", least=0)
    api_key: str = option(
        "",
        "Key that clients must send. The environment variable is safer: other users of the machine "
        "can see the command line.",
        envvar="LADDER_API_KEY",
    )
    name: str = option("", "Name of the model for clients (default: that of the folder).")
    queue: int = option(
        32, "Requests that may wait for the model; further ones are refused.", least=0
    )
    tokens: int = option(2048, "Most tokens that a client may ask for.", least=1)
    grace: int = option(
        30, "Seconds that running requests get to end after Ctrl-C or SIGTERM.", least=0
    )

    def __post_init__(self) -> None:
        read_all(self)
        if self.port > HIGHEST_PORT:
            raise LadderError(f"--port {self.port}: give at most {HIGHEST_PORT}")
