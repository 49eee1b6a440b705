"""A TVM user's script, which imports only tvm, torch and numpy. Compiles, runs and saves models.

python tvm_models.py FOLDER [TARGET] [TYPE]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import tvm
from torch import nn
from torch.nn import functional as F
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

WIDTH, HEADS, KEY_HEADS, TOKENS, VOCABULARY = 64, 4, 2, 8, 128


class MLP(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(100, 160)
        self.middle = nn.Linear(160, 160, bias=False)
        self.down = nn.Linear(160, 70)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(torch.sigmoid(self.middle(F.silu(self.up(x)))))
        return y


class RMSNorm(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Layer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.size = WIDTH // HEADS
        keys = KEY_HEADS * self.size
        self.q_proj, self.o_proj = linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)
        self.k_proj, self.v_proj = linear(WIDTH, keys), linear(WIDTH, keys)
        self.gate_proj, self.up_proj = linear(WIDTH, 96), linear(WIDTH, 96)
        self.down_proj = linear(96, WIDTH)
        self.before, self.between = RMSNorm(), RMSNorm()

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        q, k, v = (self.heads(p(y)) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        k, v = (t.repeat_interleave(HEADS // KEY_HEADS, 1) for t in (k, v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(seen.transpose(1, 2).reshape(x.shape))
        y = self.between(x)
        down: torch.Tensor = self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))
        return x + down

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], -1, self.size).transpose(1, 2)


def linear(k: int, n: int) -> nn.Linear:
    return nn.Linear(k, n, bias=False)


class Llama(nn.Module):  # type: ignore[misc]
    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.norm, self.lm_head = RMSNorm(), linear(WIDTH, VOCABULARY)
        size = WIDTH // HEADS
        angle = torch.arange(TOKENS)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
        angle = torch.cat([angle, angle], -1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits: torch.Tensor = self.lm_head(self.norm(x))
        return logits


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """The models with an input for each, equal in every process."""
    torch.manual_seed(0)
    return {
        "mlp": (MLP().eval(), torch.randn(3, 100)),
        "llama": (Llama().eval(), torch.randint(0, VOCABULARY, (1, TOKENS))),
    }


def computed(module: nn.Module, x: torch.Tensor, target: str, type: str) -> np.ndarray:
    """The output of the Relax VM for a module with low-bit products."""
    mod = from_exported_program(torch.export.export(module, (x,)))
    mod = mod.with_attr("ladder.type", type)
    executable = tvm.compile(mod, target=target, relax_pipeline="ladder")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result: np.ndarray = machine["main"](tvm.runtime.tensor(x.numpy()))[0].numpy()
    return result


if __name__ == "__main__":
    folder, target, type = [*sys.argv[1:], "ladder/x86-64-v4", "int4:g32"][:3]
    for name, (module, x) in models().items():
        np.save(f"{folder}/{name}.npy", computed(module, x, target, type))
