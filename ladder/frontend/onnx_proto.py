"""What the IR has no place for in an ONNX file: brought into plain form, or reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.numpy_helper import from_array, to_array
from onnx_ir.passes.common import InlinePass

from ladder.ir import dialect

STANDARD = "ai.onnx"  # another spelling of the standard domain
WEIGHT = 256  # elements of a constant that may be a weight


def plain(proto: onnx.ModelProto) -> list[str]:
    """Change ``proto`` in place; return notes for the report.

    Sparse initializers become dense, the standard domain gets its usual spelling.
    """
    notes = []
    for graph in _graphs(proto):
        made = [_dense(sparse) for sparse in graph.sparse_initializer]
        graph.initializer.extend(made)
        del graph.sparse_initializer[:]
        notes += [f"the sparse weight {tensor.name} is dense now" for tensor in made]
        if graph.quantization_annotation:
            notes.append("annotations of quantized values are not kept")
    if proto.training_info:
        notes.append("training information is not kept")
    _spell_domain(proto)
    return list(dict.fromkeys(notes))


def inline_weights(model: ir.Model) -> list[str]:
    """Inline local functions where they hold weights, so that these are seen; return notes."""
    own = {key for key in model.functions if key[0] != dialect.DOMAIN}
    if not any(_holds_weights(model.functions[key]) for key in own):
        return []
    InlinePass(lambda function: function.identifier() in own)(model)
    names = ", ".join(sorted(f"{domain}.{name}" for domain, name, *_ in own))
    return [f"local functions are inlined, because they hold weights: {names}"]


def _holds_weights(function: ir.Function) -> bool:
    for node in function.all_nodes():
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                if attribute.as_tensor().size >= WEIGHT:
                    return True
    return False


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values, places = to_array(sparse.values), to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 2:
        dense[tuple(places.T)] = values
    else:
        dense.reshape(-1)[places] = values
    return from_array(dense, sparse.values.name)


def _spell_domain(proto: onnx.ModelProto) -> None:
    for owner in (proto, *proto.functions):
        for opset in owner.opset_import:
            opset.domain = "" if opset.domain == STANDARD else opset.domain
    for holder in (*_graphs(proto), *proto.functions):
        for node in holder.node:
            node.domain = "" if node.domain == STANDARD else node.domain


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph, and all subgraphs, of functions too."""
    yield proto.graph
    for holder in (proto.graph, *proto.functions):
        yield from _subgraphs(holder)


def _subgraphs(holder: Any) -> Iterator[onnx.GraphProto]:
    """Of a graph or a function."""
    for node in holder.node:
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield graph
                yield from _subgraphs(graph)
