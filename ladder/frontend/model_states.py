"""Which states a transformers model has: what it asks for when it sees two tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ladder.errors import LadderError, one_line
from ladder.frontend.carried import Carried
from ladder.frontend.language_model import Step, as_traced
from ladder.frontend.traced_cache import NotCarried
from ladder.ir.states import ROWS, STATE_PREFIX, StateSpec

TOKENS = 2


def find_states(model: Any) -> tuple[StateSpec, ...]:
    """The states in the order in which layers ask for them; some layers share those of others."""
    carried = Carried(model, torch.zeros(1, dtype=torch.long))
    try:
        with torch.no_grad(), as_traced(model):
            Step(model, ()).run(torch.zeros(1, TOKENS, dtype=torch.long), carried)
    except NotCarried as error:
        raise _refused(model, str(error)) from error
    except LadderError:
        raise
    except Exception as error:
        raise _refused(model, f"two tokens fail with {one_line(error)}") from error
    if not carried.specs:
        raise _refused(model, "it asks its cache for nothing")
    return tuple(carried.specs.values())


def layers_with_rows(specs: Sequence[StateSpec]) -> list[int]:
    """The numbers of the layers that have keys and values, which follow each other."""
    rows = [spec.name for spec in specs if spec.kind == ROWS]
    return [int(name.removeprefix(STATE_PREFIX).partition(".")[0]) for name in rows[::2]]


def _refused(model: Any, reason: str) -> LadderError:
    return LadderError(
        f"{type(model).__name__} is not supported: {reason}, so it is not known what to carry from "
        "call to call; ladder.load(module, example_inputs) takes it for texts of fixed length"
    )
