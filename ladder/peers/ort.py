"""ONNX Runtime: the MatMulNBits operator of its CPU provider."""

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

INT8 = 4  # accuracy_level: activations are rounded to int8
SESSIONS = 8
LUT = "MatMulNBits acc4, look-ups"


class OnnxRuntime(Engine):
    name, package = "onnxruntime", "onnxruntime"

    def version(self) -> str:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        return str(onnxruntime.__version__)

    def kinds(self, n: int, k: int) -> list[Kind]:
        g, plain = group_for(k), "MatMulNBits acc4"
        if not g:
            return []
        found = [Kind(f"uint{bits}:g{g}", str(bits), plain) for bits in (2, 4, 8)]
        if g != 32:
            found.append(Kind("uint4:g32", "4", plain))
        return [*found, Kind(f"uint2:g{g}", "2", LUT)]

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Weight:
        return _Products(kind, n, k, self.threads, rotate)


class _Products(Weight):
    """Sessions with a few MatMulNBits nodes each, all on one activation."""

    def __init__(self, kind: Kind, n: int, k: int, threads: int, rotate: float) -> None:
        element, group = kind.type.split(":")
        self._bits, self._group = int(element[4:]), int(group[1:])
        self._codes = random_codes(n, k, self._bits)
        self._scale = random_scales(n, k // self._group)
        data = packed(self._codes, self._bits).reshape(n, k // self._group, -1)
        self.stored_bytes = data.nbytes + self._scale.nbytes
        copies = copies_of(self.stored_bytes, rotate)
        self.per_step = -(-copies // SESSIONS)
        self.steps = -(-copies // self.per_step)
        self._k, self._x = k, {}  # type: int, dict[int, F32]
        options = _options(threads, kind.scheme == LUT)
        self._sessions = [self._session(data, i, options) for i in range(self.steps)]

    def _session(self, data: np.ndarray, step: int, options: Any) -> Any:
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper

        (n, _groups, _), k = data.shape, self._k
        nodes, held, outputs = [], [], []
        for i in range(self.per_step):
            turn = step * self.per_step + i  # copies differ, because equal ones would be merged
            parts = {"b": np.roll(data, turn, 0), "s": np.roll(self._scale, turn, 0)}
            held += [numpy_helper.from_array(a, f"{name}{i}") for name, a in parts.items()]
            attributes = {"K": k, "N": n, "bits": self._bits, "block_size": self._group}
            nodes.append(
                helper.make_node(
                    "MatMulNBits", ["x", f"b{i}", f"s{i}"], [f"y{i}"], domain="com.microsoft",
                    accuracy_level=INT8, **attributes,
                )
            )  # fmt: skip
            outputs.append(_value(f"y{i}", n))
        graph = helper.make_graph(nodes, "products", [_value("x", k)], outputs, held)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        text = onnx.ModelProto.SerializeToString(model)
        return onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])

    def _feeds(self, m: int) -> dict[str, F32]:
        if m not in self._x:
            self._x[m] = activation(m, self._k)
        return {"x": self._x[m]}

    def run(self, m: int, step: int) -> None:
        self._sessions[step].run(None, self._feeds(m))

    def output(self, m: int) -> F32:
        out: F32 = self._sessions[0].run(["y0"], self._feeds(m))[0]
        return out

    def dequantized(self) -> F64:
        return grouped(self._codes[::EVERY], 1 << (self._bits - 1), self._scale[::EVERY])


def _options(threads: int, look_ups: bool) -> Any:
    """Options of a session: threads spin during a run, but not after it, when others are timed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if look_ups:
        options.add_session_config_entry("mlas.use_lut_gemm", "1")
    return options


def _value(name: str, columns: int) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", columns])
