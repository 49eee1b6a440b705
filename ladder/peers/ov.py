"""OpenVINO: compressed weights as NNCF writes them, decompressed in its MatMul on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ladder.peers.engine import (
    EVERY,
    F32,
    F64,
    Engine,
    Kind,
    Weight,
    activation,
    group_for,
    grouped,
    packed,
    random_codes,
    random_scales,
)
from ladder.timing.rotation import copies_of

MODELS = 8
HINTS = {"f32 hint": "f32", "default hint": ""}


class OpenVino(Engine):
    name, package = "openvino", "openvino"

    def version(self) -> str:
        import openvino

        self._core = openvino.Core()
        return str(openvino.__version__).split("-")[0]

    def kinds(self, n: int, k: int) -> list[Kind]:
        g, found = group_for(k), []
        for hint in HINTS:
            if g:
                found += [Kind(f"uint{b}:g{g}:fp16:zp", str(b), hint) for b in (2, 4)]
            found.append(Kind("int8:row:fp16", "8", hint))
        return found + ([Kind(f"int4:g{g}:fp16", "4", "f32 hint")] if g else [])

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Weight:
        return _Products(self._core, kind, n, k, self.threads, rotate)


class _Products(Weight):
    """Compiled models with a few MatMul nodes each, all on one activation; M is dynamic."""

    def __init__(self, core: Any, kind: Kind, n: int, k: int, threads: int, rotate: float) -> None:
        element, group, *_ = kind.type.split(":")
        self._signed, self._bits = element.startswith("int"), int(element[-1])
        self._group = k if group == "row" else int(group[1:])
        self._n, self._k = n, k
        codes = random_codes(n, k, self._bits)
        middle = 1 << (self._bits - 1)
        self._codes = codes ^ np.uint8(middle) if self._signed else codes  # two's complement
        self._scale = random_scales(n, k // self._group).astype(np.float16)
        zeros = self._scale.size * self._bits / 8 * (not self._signed)
        self.stored_bytes = int(n * k * self._bits / 8 + self._scale.nbytes + zeros)
        copies = copies_of(self.stored_bytes, rotate)
        self.per_step = -(-copies // MODELS)
        self.steps = -(-copies // self.per_step)
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if HINTS[kind.scheme]:
            config["INFERENCE_PRECISION_HINT"] = HINTS[kind.scheme]
        self._requests = [self._request(core, step, config) for step in range(self.steps)]
        self._x: dict[int, Any] = {}

    def _request(self, core: Any, step: int, config: dict[str, Any]) -> Any:
        import openvino
        from openvino import opset13 as op

        x = op.parameter([-1, self._k], np.float32)
        data = packed(self._codes, self._bits)
        products = [
            op.matmul(x, self._weight(data, step * self.per_step + i), False, True)
            for i in range(self.per_step)
        ]
        model = openvino.Model(products, [x], "products")
        return core.compile_model(model, "CPU", config).create_infer_request()

    def _weight(self, data: np.ndarray, turn: int) -> Any:
        """(code - zero) * scale in the operators that the plugin recognises: float32 [N, K]."""
        import openvino
        from openvino import opset13 as op

        kind = getattr(openvino.Type, f"{'i' if self._signed else 'u'}{self._bits}")
        groups = self._k // self._group
        flat = self._group == self._k
        shape = [self._n, self._k] if flat else [self._n, groups, self._group]
        one = [self._n, 1] if flat else [self._n, groups, 1]
        value = op.convert(_constant(np.roll(data, turn, 0), shape, kind), "f16")
        if not self._signed:
            middle = np.full((self._n, groups), 1 << (self._bits - 1), np.uint8)
            zero = _constant(packed(middle.reshape(1, -1), self._bits), one, kind)
            value = op.subtract(value, op.convert(zero, "f16"))
        scale = np.roll(self._scale, turn, 0).reshape(one)
        value = op.multiply(value, op.constant(scale, openvino.Type.f16))
        if not flat:
            value = op.reshape(value, [self._n, self._k], False)
        return op.convert(value, "f32")

    def _input(self, m: int) -> Any:
        import openvino

        if m not in self._x:
            self._x[m] = openvino.Tensor(activation(m, self._k))
        return self._x[m]

    def run(self, m: int, step: int) -> None:
        request = self._requests[step]
        request.set_input_tensor(self._input(m))
        request.infer()

    def output(self, m: int) -> F32:
        self.run(m, 0)
        out: F32 = np.array(self._requests[0].get_output_tensor(0).data)
        return out

    def dequantized(self) -> F64:
        codes, middle = self._codes[::EVERY], 1 << (self._bits - 1)
        unsigned = codes ^ np.uint8(middle) if self._signed else codes
        return grouped(unsigned, middle, self._scale[::EVERY])


def _constant(data: np.ndarray, shape: Sequence[int], kind: Any) -> Any:
    import openvino

    tensor = openvino.Tensor(kind, openvino.Shape(list(shape)))
    tensor.data.reshape(-1).view(np.uint8)[:] = data.reshape(-1)
    return openvino.op.Constant(tensor)
