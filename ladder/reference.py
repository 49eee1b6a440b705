"""ONNX Runtime as the IR's interpreter: it runs a model after any pass, the dialect included."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from ladder.ir.states import StateSpec

# Stock fusion turns DequantizeLinear + MatMul into int8 arithmetic (accuracy level 4); as the
# meaning of the IR we want float32.
EXACT = ("session.qdq_matmulnbits_accuracy_level", "1")


class Reference:
    """A model, or one in a file, under ONNX Runtime; its states are carried from call to call.

    ``fast`` allows what changes the last digits; without ``optimize`` every node runs as it is.
    """

    def __init__(
        self,
        model: ir.Model | Path,
        threads: int = 0,
        fast: bool = False,
        optimize: bool = True,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what fails is raised, and reported in one line
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not fast:
            # Planning which buffers may share memory is quadratic in the nodes, and lowered models
            # have tens of thousands: without it they load five times sooner, at the same peak.
            options.enable_mem_reuse = False
            options.add_session_config_entry(*EXACT)
        path = model if isinstance(model, Path) else self._write(model)
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]

    def _write(self, model: ir.Model) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="ladder-reference-")
        path = Path(self._folder.name) / "model.onnx"
        ir.save(model, path, external_data="model.data")
        return path

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, dict(feeds)), strict=True))


class ReferenceLanguageModel:
    """A causal language model under ONNX Runtime, with the interface of ``LanguageModel``."""

    def __init__(
        self,
        model: ir.Model | Path,
        states: Sequence[StateSpec],
        context: int,
        threads: int = 0,
        fast: bool = False,
        chunk: int = 0,
    ) -> None:
        self.reference = Reference(model, threads, fast)
        self.context, self.chunk = context, chunk or context
        self._specs = states
        self.reset()

    def reset(self) -> None:
        """Forget the text so far."""
        self.position = 0
        self.states = {spec.name: spec.initial(self.context) for spec in self._specs}

    def feed(self, tokens: list[int]) -> np.ndarray:
        """Append tokens; returns their logits, float32 [len(tokens), vocabulary]."""
        pieces = [tokens[i : i + self.chunk] for i in range(0, len(tokens), self.chunk)]
        return np.concatenate([self._feed(piece) for piece in pieces])

    def _feed(self, tokens: list[int]) -> np.ndarray:
        feeds: dict[str, np.ndarray] = {
            "input_ids": np.array([tokens], np.int64),
            "position": np.array([self.position], np.int64),
            **self.states,
        }
        out = self.reference.run(feeds)
        self.states = {spec.name: out[spec.next] for spec in self._specs}
        self.position += len(tokens)
        logits: np.ndarray = out["logits"][0]
        return logits

    def step(self, token: int) -> np.ndarray:
        """Append one token; returns the logits after it."""
        last: np.ndarray = self._feed([token])[-1]
        return last
