"""Messages of a conversation as the prompt of a model, by its own chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError, one_line
from ladder.runtime.prefix import PrefixReuse
from ladder.runtime.sampling import Sampling

if TYPE_CHECKING:
    from ladder.runtime.generation import Generation
    from ladder.runtime.language_model import LanguageModel

Message = Mapping[str, str]  # "role" (system, user, assistant) and "content"
ROLES = ("system", "user", "assistant", "tool")


def render(template: str | None, messages: Sequence[Message], tokens: Mapping[str, str]) -> str:
    """The prompt for the assistant's answer to ``messages``.

    Templates are Jinja2, rendered in a sandbox as transformers does it. ``tokens`` has the texts of
    special tokens by the names that templates use (``bos_token``, ``eos_token``).
    """
    if template is None:
        raise LadderError("the model has no chat template; give a prompt instead of messages")
    _check(messages)
    try:
        return str(
            _environment()
            .from_string(template)
            .render(messages=messages, add_generation_prompt=True, **tokens)
        )
    except LadderError:
        raise
    except Exception as error:  # whatever a model's template does
        raise LadderError(f"the chat template fails: {one_line(error)}") from error


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise LadderError("there are no messages; give at least one")
    for message in messages:
        if not isinstance(message.get("content"), str) or message.get("role") not in ROLES:
            raise LadderError(
                f"message {dict(message)!r:.60}: give a role ({', '.join(ROLES)}) and a content"
            )


def _environment() -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **how: json.dumps(
        value, **{"ensure_ascii": False, **how}
    )  # Jinja2's own escapes for HTML
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: date.today().strftime(form)
    return environment


def _refuse(message: str) -> None:
    raise LadderError(f"the chat template refuses the messages: {message}")


class Conversation:
    """Messages with a model. What the model has read already is not fed again.

    ``limit`` is the number of tokens of an answer at most.
    """

    def __init__(
        self,
        model: LanguageModel,
        limit: int = 512,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.model, self.limit, self.sampling, self.stop = model, limit, sampling, stop
        self._reuse = PrefixReuse(model)
        self.begin()

    def begin(self, system: str = "") -> None:
        """Start again, with a message to the model before the first one."""
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []

    def answer(self, messages: Sequence[Message]) -> Generation:
        """The answer to a list of messages, as a generation to iterate over."""
        tokens = self.model.encode_chat(messages)
        return self._reuse.generation(tokens, self.limit, self.sampling, self.stop)

    def say(self, content: str) -> Iterator[str]:
        """Yield the answer to one more message of the user, and keep both."""
        asked: Message = {"role": "user", "content": content}
        made = self.answer([*self.messages, asked])
        yield from made
        self.messages += [asked, {"role": "assistant", "content": made.text}]
        self.last = made
