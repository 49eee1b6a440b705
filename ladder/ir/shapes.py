"""Symbolic dimensions: rename them, or bind them to numbers, everywhere in a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir


def rename_dims(model: ir.Model, names: Mapping[str, str]) -> None:
    """Replace symbolic dimension names in every value's shape."""
    _replace(model, {old: ir.SymbolicDim(new) for old, new in names.items()})


def bind_dims(model: ir.Model, sizes: Mapping[str, int]) -> None:
    """Replace symbolic dimensions, and expressions of them, by numbers in every value's shape."""
    texts = {
        dim.value
        for value in _values(model.graph)
        for dim in value.shape or ()
        if isinstance(dim, ir.SymbolicDim) and dim.value and dim.value not in sizes
    }
    computed = {text: size for text in texts if (size := _computed(text, sizes)) is not None}
    _replace(model, {**computed, **sizes})


def _computed(text: str, sizes: Mapping[str, int]) -> int | None:
    """The number that an expression such as ``2*tokens`` is; None for what is none of ``sizes``."""
    try:
        size = ir.SymbolicDim(text).evaluate(sizes)
    except ValueError:  # a name that is no expression
        return None
    return size if isinstance(size, int) else None


def name_dims(model: ir.Model) -> None:
    """Call the open dimensions of inputs that have no name INPUT.AXIS."""
    for value in model.graph.inputs:
        if value.shape is not None and not value.shape.is_static():
            dims = [
                ir.SymbolicDim(f"{value.name}.{axis}") if _is_nameless(dim) else dim
                for axis, dim in enumerate(value.shape)
            ]
            value.shape = ir.Shape(dims)


def _is_nameless(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and dim.value is None


def symbolic_dims(model: ir.Model) -> list[str]:
    """Names of the symbolic dimensions of the graph's inputs, in order."""
    names: dict[str, None] = {}
    for value in model.graph.inputs:
        for dim in value.shape or ():
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                names[dim.value] = None
    return list(names)


def with_sizes(model: ir.Model, size: int) -> ir.Model:
    """A copy whose inputs have ``size`` for every dimension that is open, named or not."""
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else size for d in value.shape])
    return copy


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape as numbers, or None if a dimension is not known."""
    if value is None or value.shape is None:
        return None
    dims = tuple(value.shape)
    return tuple(dims) if all(isinstance(d, int) for d in dims) else None  # type: ignore[arg-type]


def _replace(model: ir.Model, new: Mapping[str, int | ir.SymbolicDim]) -> None:
    for value in _values(model.graph):
        if value.shape is None or value.shape.is_static():
            continue
        dims = [
            new.get(d.value, d) if isinstance(d, ir.SymbolicDim) and d.value else d
            for d in value.shape
        ]
        value.shape = ir.Shape(dims)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph.all_nodes():
        yield from node.outputs
