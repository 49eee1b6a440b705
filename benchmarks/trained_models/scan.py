"""The selective scan of Mamba 1 for training: a chunk of the text at a time, with its own gradient.

transformers keeps a graph of several operators for each token, and so spends nearly all the time on
the graph. Here one operator of torch moves the state by a token, and all else is computed for a
chunk at once, small enough to stay in the processor's cache.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from ladder.errors import LadderError

CHUNK = 16  # tokens
NAME = "mamba_selective_scan"
FIXED = {"delta_softplus": True, "return_last_state": False}  # how training calls it
WAYS = {"use_mambapy", "use_associative_scan"}  # how transformers itself would compute it


@contextmanager
def fast_scan(model: torch.nn.Module) -> Iterator[None]:
    """The layers of ``model`` scan by this module within the block, if its family scans at all."""
    family = sys.modules[type(model).__module__]
    if not hasattr(family, NAME):
        yield
        return
    with patch.object(family, NAME, selective_scan):
        yield


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    **asked: bool,
) -> Tensor:
    """transformers' function of this name: hidden_states, dt and z [batch, D, S]; the output too.

    A is [D, N], B and C are [batch, N, S].
    """
    others = {name: value for name, value in asked.items() if name not in WAYS}
    if others != FIXED:
        raise LadderError(f"{NAME} is called with {others}; training knows {FIXED} only")
    steps = functional.softplus(dt + delta_bias[:, None])
    first = [p.float().permute(2, 0, 1).contiguous() for p in (hidden_states, steps, B, C)]
    with torch.autocast("cpu", enabled=False):
        scanned = Scan.apply(*first, A.t().contiguous())
    y = scanned.permute(1, 2, 0) + hidden_states * D[:, None]
    return y * functional.silu(z)


class Scan(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed
    """h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t], y[t] = C[t] h[t], from a state of zeros.

    x and dt are [S, batch, D], b and c [S, batch, N], a [N, D]; states are [batch, N, D].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[1], *a.shape)
        outputs, states = [], []
        for now in _chunks(len(x)):
            h = _states(x[now], dt[now], b[now], _decay(dt[now], a), state)
            outputs.append(_over_states(c[now], h))
            states.append(state)
            state = h[-1]
        ctx.save_for_backward(x, dt, b, c, a, *states)
        return torch.cat(outputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Any:
        x, dt, b, c, a, *states = ctx.saved_tensors
        grad_a, carried = torch.zeros_like(a), torch.zeros_like(states[0])
        found = []
        for now, state in zip(reversed(_chunks(len(x))), reversed(states), strict=True):
            *parts, part_a, carried = _chunk_gradients(
                (x[now], dt[now], b[now], c[now], a), state, grad_y[now].contiguous(), carried
            )
            found.append(parts)
            grad_a += part_a
        return *(torch.cat(parts[::-1]) for parts in zip(*found, strict=True)), grad_a


def _chunks(length: int) -> list[slice]:
    return [slice(i, i + CHUNK) for i in range(0, length, CHUNK)]


def _decay(dt: Tensor, a: Tensor) -> Tensor:
    return torch.mul(dt[:, :, None], a).exp_()


def _states(x: Tensor, dt: Tensor, b: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """The state after each token of a chunk: [S, batch, N, D]."""
    h = (dt * x)[:, :, None] * b[..., None]
    for t in range(len(h)):
        h[t].addcmul_(state, decay[t])
        state = h[t]
    return h


def _over_states(weights: Tensor, states: Tensor) -> Tensor:
    """Sum over N: weights [S, batch, N], states [S, batch, N, D]."""
    return (weights[:, :, None] @ states)[:, :, 0]


def _over_channels(states: Tensor, values: Tensor) -> Tensor:
    """Sum over D: states [S, batch, N, D], values [S, batch, D]."""
    return (states @ values[..., None])[..., 0]


def _chunk_gradients(
    inputs: tuple[Tensor, ...], state: Tensor, grad_y: Tensor, carried: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of x, dt, b, c and a of a chunk, and that of the state before it.

    ``carried`` is the gradient of the state after it.
    """
    x, dt, b, c, a = inputs
    decay = _decay(dt, a)
    h = _states(x, dt, b, decay, state)
    grad_h = grad_y[:, :, None] * c[..., None]
    grad_h[-1] += carried
    for t in reversed(range(len(h) - 1)):
        grad_h[t].addcmul_(grad_h[t + 1], decay[t + 1])
    carried = grad_h[0] * decay[0]
    grad_c, grad_b = _over_channels(h, grad_y), _over_channels(grad_h, dt * x)
    grad_u = _over_states(b, grad_h)
    exponent = decay.mul_(grad_h)  # the gradient of dt * a
    exponent[1:].mul_(h[:-1])
    exponent[0].mul_(state)
    grad_dt = grad_u * x + (exponent * a).sum(2)
    grad_a = exponent.mul_(dt[:, :, None]).sum((0, 1))
    return grad_u * dt, grad_dt, grad_b, grad_c, grad_a, carried
