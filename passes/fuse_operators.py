"""Fuse spelled-out normalizations and rotary embeddings into ONNX's own operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.rewriter.rules.common import _no_op
from onnxscript.rewriter.rules.fusion import _layer_norm, _rms_normalization, _rotary_embedding

from ladder.passes.infra.base import Pass

OLDEST_OPSET = 23  # the first with RMSNormalization and RotaryEmbedding


@dataclass(frozen=True)
class FuseOperators(Pass):
    """Fuse by onnxscript's rules; a graph of an older opset stays as it is.

    Mul(Mul(%x, Reciprocal(Sqrt(Mean(%x^2) + eps))), %w)  -->  RMSNormalization(%x, %w)
    %x * cos + Concat(-%x[half:], %x[:half]) * sin        -->  RotaryEmbedding(%x, cos, sin)
    """

    def run(self, model: ir.Model) -> None:
        if model.graph.opset_imports.get("", 0) < OLDEST_OPSET:
            return
        _no_op.rules.apply_to_model(model)
        common.IdentityEliminationPass()(model)
        for fuse in (
            _rms_normalization.fuse_rms_normalization,
            _layer_norm.fuse_layer_normalization,
            _rotary_embedding.fuse_rotary_embedding,
        ):
            fuse(model)
        common.RemoveUnusedNodesPass()(model)
