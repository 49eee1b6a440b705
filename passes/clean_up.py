"""Clean-up: fold constants, remove dead nodes, merge equal nodes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript import optimizer

from ladder.passes.infra.base import Pass
from ladder.passes.move_weight_to_rhs import put_weights_second

FOLD_LIMIT = 4096  # elements: shape arithmetic is folded, transposed weights are not


@dataclass(frozen=True)
class CleanUp(Pass):
    """Fold constants of at most ``limit`` elements, then remove dead and repeated nodes.

    %s = Shape(%x: [1, 4]); %y = Reshape(%x, %s)  -->  %y = Reshape(%x, [1, 4])
    %y = MatMul(%w, %x), %w constant  -->  %y = Transpose(MatMul(Transpose(%x), Transpose(%w)))
    """

    limit: int = FOLD_LIMIT

    def run(self, model: ir.Model) -> None:
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            optimizer.fold_constants(
                model,
                input_size_limit=self.limit,
                output_size_limit=self.limit,
                should_fold=_keep_weights,
            )
        finally:
            logging.disable(previous)
        put_weights_second(model)
        for step in (
            common.IdentityEliminationPass(),
            common.CommonSubexpressionEliminationPass(),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedOpsetsPass(),
        ):
            step(model)


def _keep_weights(node: ir.Node) -> bool | None:
    """Do not fold a transposed weight: it keeps its name and shares one copy with other users."""
    return False if node.op_type == "Transpose" else None
