"""``ladder chat``: messages from the keyboard, answers as they are generated."""

from __future__ import annotations

import sys

from ladder.cli.running import language_model, sampling_of, speeds
from ladder.cli.show import err
from ladder.options.running import RunOptions
from ladder.runtime.artifact import Artifact
from ladder.runtime.chat import Conversation

HELP = "Write a message and press Enter. /new starts again; /quit or Ctrl-D ends."
NEW, QUIT = "/new", "/quit"


def talk(artifact: Artifact, system: str, options: RunOptions) -> None:
    """Read messages line by line until the end of the input."""
    model = language_model(artifact)
    chat = Conversation(
        model, options.tokens, sampling_of(options, model.advised_sampling), options.stop
    )
    chat.begin(system)
    err.print(HELP)
    while (message := _read()) is not None:
        if message == NEW:
            chat.begin(system)
        elif message:
            _answer(chat, message)


def _read() -> str | None:
    """The next message, or None at the end."""
    if sys.stdin.isatty():
        err.print("> ", end="")
    line = sys.stdin.readline()
    return None if not line or line.strip() == QUIT else line.strip()


def _answer(chat: Conversation, message: str) -> None:
    for piece in chat.say(message):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    err.print(speeds(chat.last), style="dim")
