"""Train latents and scales so that the model's output comes close to the float model's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ladder.blockwise.weights import as_stored
from ladder.calibration.data import Data
from ladder.calibration.learned.graph import Graph
from ladder.calibration.learned.latent import Latent
from ladder.errors import LadderError
from ladder.hardware.targets import cpu_flags
from ladder.ir.site import Site
from ladder.support import entries
from ladder.support.progress import track

EPOCHS = 2
STEP_TOKENS = 2048
STEP_SAMPLES = 8  # samples per step, for a model that does not read text
LEAST_STEPS = 100
LATENT_RATE = 0.008  # learning rate of latents, in codes per step
FACTOR_RATE = 0.005  # learning rate of the factors of scales
WARM_UP = 0.05  # share of all steps
CLIP = 1.0  # norm of all gradients
SAVE_SECONDS = 300
COMPARED = 16  # windows on which the loss is compared before and after
FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as the system calls them
STATE = "state.pt"


class Training:
    """Trains the latents of weights (by initializer) on windows of calibration data.

    The loss is KL(float || rounded) in nats per token if the output is logits (Hinton et al., arXiv
    1503.02531), else the mean squared error relative to the mean square of the output. The state is
    saved to a file in ``place`` every few minutes, so that a run that was killed resumes there.
    ``losses`` has the loss of each step so far, ``batch`` is the number of windows in a step, and
    ``precision`` is the type of products.
    """

    def __init__(
        self, model: ir.Model, data: Data, latents: Mapping[str, tuple[Site, Latent]], place: Path
    ) -> None:
        kind = torch.bfloat16 if cpu_flags() & FAST_BF16 else torch.float32
        self._graph, self._data = Graph(model, kind), data
        self._precision, self.precision = kind, str(kind).removeprefix("torch.")
        used = {name: pair for name, pair in latents.items() if name in self._graph.weights}
        self._sites = {name: site for name, (site, _) in used.items()}
        self._latents = {name: latent for name, (_, latent) in used.items()}
        self._place, self.losses = place, list[float]()
        self._float = {name: self._exact(model, name) for name in used}
        self._divergence = _kl if data.labels is not None else _relative_error
        self.batch = max(STEP_TOKENS // data.tokens, 1) if data.labels else STEP_SAMPLES
        self._each = max(len(data.feeds) // self.batch, 1)  # steps per epoch
        self.steps = max(EPOCHS * self._each, LEAST_STEPS)
        groups = [
            {"params": [p], "lr": rate}
            for latent in self._latents.values()
            for p, rate in zip(
                latent.parameters(), (LATENT_RATE * latent.spacing, FACTOR_RATE), strict=False
            )
        ]
        # Gradients through a softmax over a large vocabulary are smaller than Adam's usual epsilon.
        self._optimizer = torch.optim.AdamW(
            groups, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.0, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            [float(g["lr"]) for g in groups],  # type: ignore[arg-type]
            total_steps=self.steps + 1,
            pct_start=WARM_UP,
        )

    def loss(self) -> float:
        """The loss of the current weights on a few windows spread over the data."""
        weights = self._weights()
        every = max(len(self._data.feeds) // COMPARED, 1)
        with torch.no_grad():
            losses = [float(self._loss(feeds, weights)) for feeds in self._data.feeds[::every]]
        return float(np.mean(losses))

    def run(self) -> None:
        """Run the remaining steps."""
        self._restore()
        saved = time.monotonic()
        for step in track(range(len(self.losses), self.steps), "learn the weights"):
            self.losses.append(self._step(self._windows_of(step)))
            if time.monotonic() - saved > SAVE_SECONDS:
                self._save()
                saved = time.monotonic()

    def forget(self) -> None:
        """Remove the saved state of the run."""
        entries.drop(self._place, STATE)

    def _step(self, windows: Iterable[int]) -> float:
        leaves = {name: w.requires_grad_() for name, w in self._weights().items()}
        losses = []
        chosen = list(windows)
        for number in chosen:
            loss = self._loss(self._data.feeds[number], leaves)
            (loss / len(chosen)).backward()
            losses.append(float(loss.detach()))
        mean = float(np.mean(losses))
        if not np.isfinite(mean):
            raise LadderError(
                f"rounding 'learned': the loss became {mean} at step {len(self.losses) + 1}; "
                "use --rounding gptaq"
            )
        for name, latent in self._latents.items():
            gradient = leaves[name].grad
            assert gradient is not None, f"the output does not depend on {name}"
            latent.backward(gradient)
        parameters = [p for latent in self._latents.values() for p in latent.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        self._optimizer.step()
        self._schedule.step()
        for latent in self._latents.values():
            latent.after_step()
        return mean

    def _weights(self) -> dict[str, Tensor]:
        """The rounded weights [N, K] by initializer."""
        return {name: latent.weight().to(self._precision) for name, latent in self._latents.items()}

    def _loss(self, feeds: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]) -> Tensor:
        """The loss of the weights [N, K] on one window."""
        with torch.no_grad():
            wanted = self._graph(feeds, self._float)
        stored = {name: as_stored(self._sites[name], w) for name, w in weights.items()}
        return self._divergence(self._graph(feeds, stored), wanted)

    def _windows_of(self, step: int) -> list[int]:
        """The windows of a step. An epoch uses every window once, in a reproducible order."""
        order = np.random.default_rng(step // self._each).permutation(len(self._data.feeds))
        first = step % self._each * self.batch
        return [int(i) for i in order[first : first + self.batch]]

    def _exact(self, model: ir.Model, name: str) -> Tensor:
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        return torch.from_numpy(np.array(tensor.numpy(), np.float32)).to(self._precision)

    def _save(self) -> None:
        state = {
            "latents": {name: latent.state() for name, latent in self._latents.items()},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "losses": self.losses,
        }
        with entries.put(self._place, STATE) as aside:
            torch.save(state, aside)

    def _restore(self) -> None:
        if not entries.has(self._place, STATE):
            return
        state: dict[str, Any] = torch.load(self._place / STATE, weights_only=True)
        for name, latent in self._latents.items():
            latent.restore(state["latents"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.losses = state["losses"]


class _LogitsKL(torch.autograd.Function):  # type: ignore[misc]
    """Mean KL(wanted || made) over the tokens of logits [..., V]; its own gradient is cheap."""

    @staticmethod
    def forward(context: Any, made: Tensor, wanted: Tensor) -> Tensor:
        q, p = torch.log_softmax(made.float(), -1), torch.log_softmax(wanted.float(), -1)
        share = p.exp()
        context.kind = made.dtype
        context.save_for_backward(q, share)
        return (share * (p - q)).sum(-1).mean()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        q, share = context.saved_tensors
        rows = q.numel() // q.shape[-1]
        return (q.exp() - share).mul_(gradients[0] / rows).to(context.kind), None


def _kl(made: Tensor, wanted: Tensor) -> Tensor:
    loss: Tensor = _LogitsKL.apply(made, wanted)
    return loss


def _relative_error(made: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted.float()
    return (made.float() - wanted).square().mean() / wanted.square().mean().clamp(min=1e-30)
