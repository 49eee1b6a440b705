"""PyTorch: its low-bit linear operators for CPUs, and plain bf16."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ladder.peers.engine import (
    DENSE,
    EVERY,
    F32,
    F64,
    Engine,
    Kind,
    Weight,
    activation,
    group_for,
    grouped,
    random_codes,
    random_scales,
)
from ladder.timing.rotation import copies_of

BF16_BYTES = 2
K_TILES = 2  # the packing of int4 on CPUs ignores it, but the operator requires 2, 4 or 8


class PyTorch(Engine):
    name, package = "torch", "torch"

    def version(self) -> str:
        import torch

        torch.set_num_threads(self.threads)
        return str(torch.__version__)

    def isa(self) -> str:
        import torch

        return str(torch.backends.cpu.get_cpu_capability())

    def kinds(self, n: int, k: int) -> list[Kind]:
        g = group_for(k)
        int4 = [Kind(f"uint4:g{g}:bf16:zpf", "4", "int4pack_mm_for_cpu, bf16 x")]
        return [
            *(int4 if g and n % 16 == 0 else []),
            Kind("int8:row", "8", "quantized.linear_dynamic"),
            Kind("bf16", DENSE, "linear, bf16 x"),
        ]

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Weight:
        made: dict[str, type[_Int4 | _Int8 | _BFloat16]] = {
            "4": _Int4,
            "8": _Int8,
            DENSE: _BFloat16,
        }
        return made[kind.bits](n, k, tokens, rotate)


class _Products(Weight):
    """Copies of one weight, and operators called on them in turn."""

    def __init__(self, n: int, k: int, tokens: Sequence[int], rotate: float) -> None:
        import torch

        self._n, self._k = n, k
        self.stored_bytes = self._make()
        self.steps = copies_of(self.stored_bytes, rotate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._copies = [self._pack() for _ in range(self.steps)]
        self._x = {m: self._input(torch.from_numpy(activation(m, k))) for m in tokens}
        self._no_grad = torch.inference_mode

    @abstractmethod
    def _make(self) -> int:
        """Make the weight; returns the bytes that one copy takes."""

    @abstractmethod
    def _pack(self) -> Any:
        """A copy in the form that the operator takes."""

    def _input(self, x: Any) -> Any:
        import torch

        return x.to(torch.bfloat16)

    @abstractmethod
    def _product(self, x: Any, copy: Any) -> Any:
        """Compute one product."""

    def run(self, m: int, step: int) -> None:
        with self._no_grad():
            self._product(self._x[m], self._copies[step])

    def output(self, m: int) -> F32:
        with self._no_grad():
            out: F32 = self._product(self._x[m], self._copies[0]).float().numpy()
        return out


class _Int4(_Products):
    def _make(self) -> int:
        import torch

        groups = self._k // group_for(self._k)
        self._codes = random_codes(self._n, self._k, 4)
        scale = torch.from_numpy(random_scales(groups, self._n, 1)).to(torch.bfloat16)
        self._scales = torch.cat([scale, torch.zeros_like(scale)], 2).contiguous()
        return self._codes.size // 2 + int(self._scales.numel()) * BF16_BYTES

    def _pack(self) -> Any:
        import torch

        codes = torch.from_numpy(self._codes.astype(np.int32))
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, K_TILES)
        return packed, self._scales.clone()

    def _product(self, x: Any, copy: Any) -> Any:
        import torch

        packed, scales = copy
        group = group_for(self._k)
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, scales)

    def dequantized(self) -> F64:
        scale = self._scales[:, ::EVERY, 0].float().numpy().T
        return grouped(self._codes[::EVERY], 8, scale)


class _Int8(_Products):
    def _make(self) -> int:
        self._codes = (random_codes(self._n, self._k, 8) ^ np.uint8(128)).view(np.int8)
        self._scale = random_scales(self._n, 1)
        return self._codes.nbytes + self._scale.nbytes

    def _pack(self) -> Any:
        import torch

        codes, scale = torch.from_numpy(self._codes), torch.from_numpy(self._scale[:, 0])
        zero = torch.zeros(self._n, dtype=torch.int64)
        weight = torch._make_per_channel_quantized_tensor(codes, scale.double(), zero, 0)
        return torch.ops.quantized.linear_prepack(weight, None)

    def _input(self, x: Any) -> Any:
        return x

    def _product(self, x: Any, copy: Any) -> Any:
        import torch

        return torch.ops.quantized.linear_dynamic(x, copy)

    def dequantized(self) -> F64:
        return grouped(self._codes[::EVERY], 0, self._scale[::EVERY])


class _BFloat16(_Products):
    def _make(self) -> int:
        import torch

        values = np.random.default_rng(0).standard_normal((self._n, self._k), np.float32)
        self._weight = torch.from_numpy(values).to(torch.bfloat16)
        return int(self._weight.numel()) * BF16_BYTES

    def _pack(self) -> Any:
        return self._weight.clone()

    def _product(self, x: Any, copy: Any) -> Any:
        import torch

        return torch.nn.functional.linear(x, copy)

    def dequantized(self) -> F64:
        out: F64 = self._weight[::EVERY].double().numpy()
        return out
