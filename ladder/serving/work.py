"""A request as work for the model: its tokens, how many may follow, and how they are drawn."""

from __future__ import annotations

import secrets

from ladder.errors import LadderError
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.sampling import Sampling, sampling_from
from ladder.serving.protocol import Asked, refuse_tokens
from ladder.serving.refusal import Refusal
from ladder.serving.worker import Work

USUAL_COMPLETION = 16  # tokens of a completion, as in OpenAI's protocol


def work_of(model: LanguageModel, asked: Asked, most: int) -> Work:
    """What ``model`` is to do for a request; an answer has ``most`` tokens at most."""
    tokens = _tokens(model, asked)
    if not tokens:
        raise Refusal("the prompt has no tokens; give some text", asked.source)
    limit = _limit(asked, len(tokens), model.context, most)
    return Work(tokens, limit, _sampling(model, asked), asked.stop)


def _tokens(model: LanguageModel, asked: Asked) -> list[int]:
    if asked.messages:
        return _tokens_of_chat(model, asked)
    if isinstance(asked.prompt, str):
        return model.encode(asked.prompt)
    refuse_tokens(asked.prompt, model.vocabulary)
    return [*asked.prompt]


def _tokens_of_chat(model: LanguageModel, asked: Asked) -> list[int]:
    try:
        return model.encode_chat(asked.messages)
    except LadderError as error:  # above all of its template
        raise Refusal(error, asked.source) from error


def _limit(asked: Asked, tokens: int, context: int, most: int) -> int:
    """How many tokens the answer may have."""
    if asked.limit is not None and asked.limit > most:
        raise Refusal(
            f"max_tokens is {asked.limit}: this server gives at most {most}", "max_tokens"
        )
    usual = most if asked.messages else min(most, USUAL_COMPLETION)
    rest = context - tokens
    limit = min(usual, max(rest, 1)) if asked.limit is None else asked.limit
    if limit > rest:
        raise Refusal(
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{tokens + limit} tokens ({tokens} in the {asked.source}, {limit} in the completion). "
            f"Please reduce the length of the {asked.source} or completion.",
            asked.source,
            code="context_length_exceeded",
        )
    return limit


def _sampling(model: LanguageModel, asked: Asked) -> Sampling:
    """What was asked for; without a seed, another text each time."""
    seed = {"seed": secrets.randbits(32)}
    try:
        return sampling_from({**seed, **asked.sampling}, model.advised_sampling)
    except LadderError as error:
        raise Refusal(error, str(error).partition(" ")[0], code="invalid_value") from error
