"""Checks that an ONNX graph is one: tensors have their data, nodes fit their operators.

ONNX's own checker refuses operators that it does not know; here they pass. An operator that is
known has the inputs that it needs, and attributes of their types, so that nothing that reads a
graph has to doubt it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir as ir

from ladder.errors import LadderError, one_line

STANDARD = ("", "ai.onnx")
INVALID = "it is damaged or no valid ONNX: fetch it again, or check it with onnx.checker"


def check_graph(model: ir.Model, path: object) -> None:
    """Refuse tensors without their data, and nodes that do not fit their operator."""
    for tensor in tensors_of(model):
        _check_tensor(tensor, path)
    owners: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for owner in owners:
        for node in owner.all_nodes():
            _check_references(node, isinstance(owner, ir.Function), path)
            version = _version(node, owner.opset_imports, model.opset_imports)
            reason = _fault(node, version) if node.domain in STANDARD else None
            if reason is not None:
                raise LadderError(
                    f"{path}: node '{node.name or ''}' ({node.op_type}) {reason}; {INVALID}"
                )


def _check_references(node: ir.Node, in_function: bool, path: object) -> None:
    """Only a node of a function may take the function's attributes."""
    for attribute in node.attributes.values():
        if attribute.is_ref() and not in_function:
            raise LadderError(
                f"{path}: node '{node.name or ''}' ({node.op_type}) takes its attribute "
                f"'{attribute.name}' from a function, and is in none; {INVALID}"
            )


def _version(node: ir.Node, *imports: Mapping[str, int]) -> int:
    """The version of the standard's operators that a node means; the newest if none is known."""
    newest: int = onnx.defs.onnx_opset_version()
    found = (table.get(domain) for table in imports for domain in (node.domain, *STANDARD))
    return next((version for version in found if version and 0 < version < newest), newest)


def tensors_of(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The tensors of all initializers and Constant nodes, also in subgraphs and functions."""
    for graph in [model.graph, *model.graph.subgraphs()]:
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    owners: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for owner in owners:
        for node in owner.all_nodes():
            yield from _in_attributes(node.attributes.values())


def _in_attributes(attributes: Iterable[ir.Attr]) -> Iterator[ir.TensorProtocol]:
    for attribute in attributes:
        if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
            yield attribute.value


def _check_tensor(tensor: ir.TensorProtocol, path: object) -> None:
    try:
        external = isinstance(tensor, ir.ExternalTensor)
        if external and tensor.length not in (None, tensor.nbytes):  # type: ignore[attr-defined]
            raise ValueError(f"{tensor.nbytes} bytes are needed")
        if not external:
            tensor.numpy()
    except Exception as error:  # of onnx_ir and NumPy, of many types
        name = getattr(tensor, "name", "") or ""
        raise LadderError(
            f"{path}: the data of tensor '{name}' do not fit its shape and type "
            f"({one_line(error)}); {INVALID}"
        ) from error


def _fault(node: ir.Node, version: int) -> str | None:
    """Why a node does not fit the schema of its operator; None also where there is none."""
    schema = _schema(node.op_type, version)
    if schema is None:
        return None
    count = len(node.inputs)
    if not schema.min_input <= count <= schema.max_input:
        return f"has {count} inputs, and takes {schema.min_input} to {schema.max_input}"
    for given, formal in zip(node.inputs, schema.inputs, strict=False):
        if given is None and formal.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            return f"lacks its input '{formal.name}'"
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        return f"has {len(node.outputs)} outputs"
    return _attribute_fault(node, schema)


def _attribute_fault(node: ir.Node, schema: Any) -> str | None:
    for name, about in schema.attributes.items():
        given = node.attributes.get(name)
        if given is None:
            if about.required:
                return f"lacks its attribute '{name}'"
        elif given.is_ref():
            continue
        elif given.value is None:
            return f"has the attribute '{name}' without a value"
        elif given.type.value != about.type.value:
            return f"has the attribute '{name}' of type {given.type.name}, not {about.type.name}"
    return None


@lru_cache(maxsize=1024)
def _schema(op: str, version: int) -> Any:
    try:
        return onnx.defs.get_schema(op, version, "")
    except Exception:  # an operator of another version, or of nobody
        return None
