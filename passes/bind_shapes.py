"""Bind symbolic dimensions to numbers: one graph for decode, one for prefill."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from ladder.errors import LadderError
from ladder.ir.shapes import bind_dims, name_dims, symbolic_dims
from ladder.passes.clean_up import CleanUp
from ladder.passes.infra.base import Pass

SIZE = "[0-9]{1,15}"


@dataclass(frozen=True)
class BindShapes(Pass):
    """Give dimensions sizes: ``dims`` is ``name:size/name:size``. Missing shapes are inferred,
    shape arithmetic that becomes constant is folded, and constants become initializers. A dimension
    without a name is called INPUT.AXIS.

        graph(%x: [1, tokens])  -->  graph(%x: [1, 64])
    """

    dims: str

    def run(self, model: ir.Model) -> None:
        name_dims(model)
        known, sizes = symbolic_dims(model), {}
        for name, size in _items(self.dims):
            if name not in known:
                raise LadderError(
                    f"no input has a dimension '{name}'; "
                    f"the inputs have: {', '.join(known) or 'none'}"
                )
            if not re.fullmatch(SIZE, size) or int(size) == 0:
                raise LadderError(f"dimension '{name}': '{size}' is not a positive number")
            sizes[name] = int(size)
        bind_dims(model, sizes)
        infer_and_fold(model)


def infer_and_fold(model: ir.Model) -> None:
    """Find the shapes of all values, and make constants of what follows from them."""
    if any(v.shape is None for node in model.graph for v in node.outputs):
        ShapeInferencePass(strict_mode=False)(model)  # one unknown shape leaves the others
    CleanUp().run(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def _items(dims: str) -> list[tuple[str, str]]:
    """Names and sizes; a name may hold slashes and colons, as inputs of TensorFlow do."""
    found, parts = [], list[str]()
    for part in dims.split("/"):
        before, colon, size = part.rpartition(":")
        name = "/".join([*parts, before]) if colon else ""
        if name:
            found.append((name, size))
            parts.clear()
        else:
            parts.append(part)
    rest = "/".join(parts)
    return [*found, (rest, "")] if rest else found
