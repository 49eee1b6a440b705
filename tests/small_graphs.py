"""Small ONNX graphs from text, and what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from ladder.export.opset import raise_opset
from ladder.ir.dtype import DType
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights

ort.set_default_logger_severity(4)
Arrays = Mapping[str, np.ndarray]
TOLERANCE = 1e-4
NEWEST_OPSET = 25


def graph(text: str, weights: Arrays, opset: int = 21) -> onnx.ModelProto:
    """A model from the text of its graph; ``weights`` become initializers."""
    header = f'<ir_version: 10, opset_import: ["": {opset}, "custom": 1]>\n'
    model: onnx.ModelProto = onnx.parser.parse_model(header + text)
    tensors = (onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model.graph.initializer.extend(tensors)
    return model


def quantized(proto: onnx.ModelProto, type: str, rounding: str = "rtn") -> ir.Model:
    """The model after rounding, with the dialect's high-level operators."""
    passes = [AllocateUniform(DType.parse(type)), RoundWeights(rounding)]
    return run_passes(ir.from_proto(proto), passes)


def meaning(model: ir.Model, feeds: Arrays) -> list[np.ndarray]:
    """Run the dialect's functions as written, without ONNX Runtime's optimizations."""
    raised = model.clone()
    raised.meta.update(model.meta)
    raise_opset(raised, NEWEST_OPSET)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(raised).SerializeToString(), options)
    return list(session.run(None, dict(feeds)))


def stock(model: ir.Model | Path, feeds: Arrays) -> list[np.ndarray]:
    """Run ONNX Runtime with its default options."""
    source = str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    return list(ort.InferenceSession(source).run(None, dict(feeds)))


def assert_same(got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Check that two arrays are equal within 1e-4 of the largest value."""
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= TOLERANCE * np.abs(b).max()


def checked(model: ir.Model) -> onnx.ModelProto:
    """The model as in a file, after ONNX's full check."""
    proto: onnx.ModelProto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
