"""Removes constants and helper nodes that nothing reads any more."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def drop_unused(values: Iterable[ir.Value | None]) -> None:
    """Remove initializers, and nodes with all that only they read; what is still read stays.

    Only values whose every use is known to the caller may be given: a node with several outputs
    stays while one of them is read.
    """
    for value in dict.fromkeys(values):
        if value is None or value.uses() or value.is_graph_output():
            continue
        node, graph = value.producer(), value.graph
        if node is not None and isinstance(node.graph, ir.Graph):
            if any(out.uses() or out.is_graph_output() for out in node.outputs):
                continue
            inputs = list(node.inputs)
            node.graph.remove(node, safe=True)
            drop_unused(inputs)
        elif value.is_initializer() and isinstance(graph, ir.Graph):
            graph.initializers.pop(value.name or "")
