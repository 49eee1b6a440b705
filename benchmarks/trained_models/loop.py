"""The training loop: Muon for matrices, AdamW for the rest, checkpoints and progress."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.trained_models.data import batch
from benchmarks.trained_models.recipes import Recipe
from benchmarks.trained_models.scan import fast_scan
from ladder.support import entries

CHECKPOINT = "checkpoint.pt"
SCORED = 64  # windows of the held-out text
EVERY = 20  # steps between two lines of progress
SMALLEST = 64  # Muon makes no sense for matrices with fewer rows or columns
DECAY = 0.4  # the last part of the steps, in which the learning rate falls


class Loop:
    """Trains the network of a recipe on tokens; ``place`` is where its checkpoint is kept."""

    def __init__(self, recipe: Recipe, tokens: np.ndarray, place: Path, minutes: float = 2) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.tokens, self.place = recipe, tokens, place
        self.seconds_between = minutes * 60  # of two checkpoints
        self.network = recipe.network()
        self.optimizers = _optimizers(self.network, recipe)
        self.step, self.cpu_seconds = 0, 0.0
        if entries.has(place, CHECKPOINT):
            self._restore(torch.load(place / CHECKPOINT, weights_only=True))

    def run(self) -> Any:
        """The trained network."""
        self.network.train()
        pace = _Pace(self.recipe, self.step)
        with fast_scan(self.network):
            for losses in self._steps():
                pace.show(self.step, losses)
        return self.network.eval()

    def remove_checkpoint(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def _steps(self) -> Iterator[float]:
        """Loss of one step after the other; a checkpoint is written every few minutes."""
        saved = time.monotonic()
        while self.step < self.recipe.steps:
            began = time.process_time()
            loss = self._one_step()
            self.step += 1
            self.cpu_seconds += time.process_time() - began
            if time.monotonic() - saved > self.seconds_between:
                self._save()
                saved = time.monotonic()
            yield loss

    def _one_step(self) -> float:
        recipe = self.recipe
        ids = batch(self.tokens, recipe.windows, recipe.tokens, recipe.seed, self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=_fast_bfloat16()):
            loss = _loss(self.network, torch.from_numpy(ids))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _factor(recipe, self.step)
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())

    def _save(self) -> None:
        state = {
            "step": self.step,
            "cpu_seconds": self.cpu_seconds,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with entries.put(self.place, CHECKPOINT) as path:
            torch.save(state, path)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


class _Pace:
    """Prints the loss and the time left, every few steps."""

    def __init__(self, recipe: Recipe, first: int) -> None:
        self.recipe, self.first, self.start = recipe, first, time.monotonic()
        self.losses: list[float] = []

    def show(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        if step % EVERY and step != self.recipe.steps:
            return
        seconds = (time.monotonic() - self.start) / (step - self.first)
        left = (self.recipe.steps - step) * seconds / 60
        speed = self.recipe.windows * self.recipe.tokens / seconds
        print(f"{self.recipe.model}: step {step} of {self.recipe.steps}, loss "
              f"{np.mean(self.losses):.3f}, {speed:.0f} tokens a second, {left:.0f} min left",
              flush=True)  # fmt: skip
        self.losses = []


def _optimizers(network: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in network.named_parameters():
        large = weight.ndim == 2 and min(weight.shape) >= SMALLEST and "embed" not in name
        (matrices if large else others).append(weight)
    found = [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    for optimizer in found:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return found


def _factor(recipe: Recipe, step: int) -> float:
    """Of the learning rate: it rises, stays, and falls to zero."""
    left = 1 - step / recipe.steps
    return min(step / recipe.warm + 0.02, 1.0, left / DECAY)


def _fast_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16; emulated, they are slow."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def _loss(network: Any, ids: torch.Tensor) -> torch.Tensor:
    """Nats for each token but the first of windows [windows, tokens]."""
    return network(input_ids=ids, labels=ids, use_cache=False).loss


def perplexity(network: Any, tokens: np.ndarray, size: int) -> float:
    """On the first windows of ``size`` tokens, each of which starts anew."""
    count = min(len(tokens) // size, SCORED)
    windows = torch.from_numpy(tokens[: count * size].reshape(count, size))
    with fast_scan(network), torch.no_grad():
        losses = [float(_loss(network, window[None])) for window in windows]
    return float(np.exp(np.mean(losses)))
