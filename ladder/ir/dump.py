"""The IR as text: facts first, then a line for each node, without metadata or weight values."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from ladder.ir import facts


def dump_text(model: ir.Model) -> str:
    """The whole model as stable text, for golden tests and for reading."""
    lines = [f"fact {line}" for fact in facts.all_facts(model) for line in _fact_lines(fact)]
    lines += _graph_lines(model.graph, "")
    return "\n".join(lines) + "\n"


def _fact_lines(fact: object) -> list[str]:
    name = type(fact).__name__
    if not dataclasses.is_dataclass(fact):
        return [f"{name} {fact}"]
    lines = []
    for f in dataclasses.fields(fact):
        value = getattr(fact, f.name)
        if isinstance(value, dict):
            lines += [f"{name}.{f.name}[{key}] = {item}" for key, item in value.items()]
        elif value != "":  # an empty text is left out
            lines.append(f"{name}.{f.name} = {value}")
    return lines


def _graph_lines(graph: ir.Graph, indent: str) -> list[str]:
    lines = [f"{indent}graph {graph.name or ''}({', '.join(_typed(v) for v in graph.inputs)})"]
    for value in graph.initializers.values():
        lines.append(f"{indent}  weight {_typed(value)}")
    for node in graph:
        lines += _node_lines(node, indent + "  ")
    lines.append(f"{indent}  return {', '.join(_typed(v) for v in graph.outputs)}")
    return lines


def _node_lines(node: ir.Node, indent: str) -> list[str]:
    outputs = ", ".join(_typed(v) for v in node.outputs)
    inputs = ", ".join(f"%{v.name}" if v is not None else "none" for v in node.inputs)
    domain = f"{node.domain}." if node.domain else ""
    overload = f"[{node.overload}]" if node.overload else ""
    plain, graphs = [], []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs += [f"{indent}  {attribute.name}:"]
            graphs += _graph_lines(attribute.as_graph(), indent + "    ")
        else:
            plain.append(f"{attribute.name}={_attribute(attribute)}")
    options = f" {{{', '.join(plain)}}}" if plain else ""
    return [f"{indent}{outputs} = {domain}{node.op_type}{overload}({inputs}){options}", *graphs]


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        small = tensor.size <= 8
        return str(tensor.numpy().tolist()) if small else f"{tensor.dtype.name}{list(tensor.shape)}"
    return str(attribute.value)


def _typed(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    shape = "?" if value.shape is None else ", ".join(str(d) for d in value.shape)
    return f"%{value.name}: {dtype}[{shape}]"
