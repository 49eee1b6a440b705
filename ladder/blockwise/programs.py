"""Programs of blocks: one ONNX Runtime session for each block.

A session holds its weights as initializers. If they were inputs, equal blocks could share a
session, and a weight could be replaced without a new one. But initializers are packed once, so
they are faster: 6.2 ms a block instead of 6.9 ms, and 150 instead of 106 GFLOP/s in lm_head
(SmolLM2, 128 tokens, one thread, ONNX Runtime 1.31). Building a session takes 16 ms a block, and
is done once for thousands of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from ladder.ir.blocks import Block
from ladder.ir.site import constant_of
from ladder.reference import EXACT

SMALL = 256  # smaller initializers are stored in the model itself, since they may be shapes
Arrays = Mapping[str, np.ndarray]


class Program:
    """A block that runs on one thread; several runs may overlap."""

    def __init__(
        self,
        model: ir.Model,
        block: Block,
        outputs: Sequence[str],
        feeds: Arrays,
        replaced: Arrays | None = None,
    ) -> None:
        """``feeds`` give the types of the inputs; ``replaced`` has weights to replace, by name."""
        replaced = replaced or {}
        read = {v.name or "": v for v in (*block.inputs, *block.sides)}
        self.inputs = list(read)
        self.outputs = list(outputs)
        inline, self._weights = _initializers(block, replaced)
        graph = onnx.GraphProto(name="block", node=_nodes(block, replaced))
        graph.initializer.extend(inline)
        for name, value in read.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
            graph.input.append(_info(value, kind))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        graph.value_info.extend(_inner_infos(block, self.outputs))
        proto = onnx.ModelProto(graph=graph, ir_version=model.ir_version or 10)
        for domain, opset in model.graph.opset_imports.items():
            proto.opset_import.append(onnx.helper.make_opsetid(domain, opset))
        proto.functions.extend(ir.to_proto(f) for f in model.functions.values())
        self.session = _session(proto, self._weights)

    @property
    def weight_bytes(self) -> int:
        return sum(array.nbytes for array in self._weights.values())

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name; feeds that are not inputs are ignored."""
        given = {name: feeds[name] for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(self.outputs, given), strict=True))

    def run_into(self, feeds: Arrays, out: np.ndarray) -> None:
        """Write the only output into ``out``, which saves a copy of large logits."""
        binding = self.session.io_binding()
        for name in self.inputs:
            binding.bind_cpu_input(name, feeds[name])
        binding.bind_ortvalue_output(self.outputs[0], ort.OrtValue.ortvalue_from_numpy(out))
        self.session.run_with_iobinding(binding)


def _initializers(
    block: Block, replaced: Arrays
) -> tuple[list[onnx.TensorProto], dict[str, np.ndarray]]:
    """The initializers stored in the model, and those that the session reads from memory."""
    inline, given = [], {}
    constants = [v for n in block.nodes for v in n.outputs if v.name in replaced]
    for value in (*block.weights, *constants):
        tensor, name = constant_of(value), value.name or ""
        assert tensor is not None
        if name in replaced:
            given[name] = np.ascontiguousarray(replaced[name])
        elif tensor.size < SMALL or tensor.dtype != ir.DataType.FLOAT:
            inline.append(_in_memory(tensor, name))
        else:
            given[name] = tensor.numpy()
    for name, array in given.items():
        place = onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT)
        place.data_location = onnx.TensorProto.EXTERNAL
        place.external_data.add(key="location", value="memory")
        inline.append(place)
    return inline, given


def _nodes(block: Block, replaced: Arrays) -> list[onnx.NodeProto]:
    """The block's nodes; weights inside subgraphs are replaced in place."""
    kept = [n for n in block.nodes if not any(v.name in replaced for v in n.outputs)]
    protos = [ir.to_proto(node) for node in kept]
    for proto in protos if replaced else []:
        _swap_inside(proto, replaced)
    return protos


def _swap_inside(node: onnx.NodeProto, replaced: Arrays) -> None:
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for tensor in graph.initializer:
                if tensor.name in replaced:
                    array = replaced[tensor.name]
                    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
            for inner in graph.node:
                _swap_inside(inner, replaced)


def _info(value: ir.Value, kind: int) -> onnx.ValueInfoProto:
    """A value's type, and what is known of its shape: ``Scan`` needs the number of dimensions."""
    info = onnx.ValueInfoProto(name=value.name or "")
    info.type.tensor_type.elem_type = kind
    for size in () if value.shape is None else value.shape:
        dim = info.type.tensor_type.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
    return info


def _inner_infos(block: Block, outputs: Sequence[str]) -> Iterator[onnx.ValueInfoProto]:
    for value in (v for node in block.nodes for v in node.outputs if v.name not in outputs):
        if value.name and value.dtype is not None and value.shape is not None:
            yield _info(value, int(value.dtype))


def _in_memory(tensor: ir.TensorProtocol, name: str) -> onnx.TensorProto:
    """A tensor, wherever it is stored, with its values in the message."""
    copy = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
    proto: onnx.TensorProto = ir.to_proto(copy)
    return proto


def _session(proto: onnx.ModelProto, weights: Arrays) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # The work is spread over windows and candidates, so one thread for each product is enough.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT)
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    if values:
        options.add_external_initializers(list(weights), values)
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(proto.SerializeToString(), options, providers=providers)
