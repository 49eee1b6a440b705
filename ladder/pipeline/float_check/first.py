"""The first operator that TVM computes otherwise than ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ladder.codegen.float_graph import FloatGraphs
from ladder.hardware.targets import Level
from ladder.ir.blocks import reads
from ladder.ir.names import described
from ladder.ir.parts import part_of
from ladder.pipeline.float_check.differences import excess
from ladder.pipeline.float_check.random_inputs import Arrays
from ladder.pipeline.float_check.values import Values, made_in

MOST = 20  # operators that are tried alone
SMALL = 64  # whole numbers that may be a shape, axes or the like


def first_difference(
    model: ir.Model, kept: Sequence[ir.Node], feeds: Arrays, level: Level
) -> str | None:
    """The operator of ``kept`` and its difference, as text; None where each alone is right.

    All run once with every value as an output; those that differ are tried alone, with the inputs
    that ONNX Runtime computed.
    """
    values = {**feeds, **Values(model, {v.name or "" for v in made_in(model)}).run(feeds)}
    part = part_of(model, kept, values)
    part.graph.outputs.clear()
    part.graph.outputs.extend(v for v in made_in(part) if v.uses() or v.name in values)
    differing = _differing(part, values, level)
    suspects = [node for node in kept if any(v.name in differing for v in node.outputs)]
    for node in suspects[:MOST]:
        error = _alone(model, node, values, level)
        if error is not None:
            return f"{described(node)} by {error:.2g} of its largest value"
    return None


def first_uncompiled(
    model: ir.Model, kept: Sequence[ir.Node], feeds: Arrays, level: Level
) -> str | None:
    """The operator of ``kept`` that TVM cannot compile alone, as text; each kind is tried once."""
    values = {**feeds, **Values(model, {v.name or "" for v in made_in(model)}).run(feeds)}
    kinds = {(node.op_type, str(node.attributes)): node for node in reversed(kept)}
    for node in reversed(kinds.values()):
        try:
            FloatGraphs({"main": part_of(model, [node], values)}, level)
        except Exception:
            return described(node)
    return None


def _differing(part: ir.Model, values: Arrays, level: Level) -> Collection[str]:
    return excess(FloatGraphs({"main": part}, level).run("main", values), values)


def _alone(model: ir.Model, node: ir.Node, values: Arrays, level: Level) -> float | None:
    for constants in _constant_choices(node, values):
        try:
            part = part_of(model, [node], values)
            _fix(part, constants, values)
            got = FloatGraphs({"main": part}, level).run("main", values)
        except Exception:
            continue  # TVM takes some inputs as constants only, and alone they are none
        return max(excess(got, values).values(), default=None)
    return None


def _constant_choices(node: ir.Node, values: Arrays) -> Iterator[Collection[str]]:
    """No input as a constant, then the small whole numbers."""
    yield ()
    known = ((v.name or "", values.get(v.name or "")) for v in reads(node))
    yield {n for n, a in known if a is not None and a.dtype.kind in "iu" and a.size <= SMALL}


def _fix(part: ir.Model, names: Collection[str], values: Arrays) -> None:
    """Turn inputs into constants."""
    for value in [value for value in part.graph.inputs if value.name in names]:
        part.graph.inputs.remove(value)
        value.const_value = ir.Tensor(np.asarray(values[value.name or ""]), name=value.name)
        part.graph.register_initializer(value)
