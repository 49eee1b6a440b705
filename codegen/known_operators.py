"""The operators that TVM or Ladder translates, and the refusal of all others."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir
from tvm.relax.frontend.onnx import onnx_frontend

from ladder.codegen.context import no_kernel
from ladder.codegen.converters import CONVERTERS
from ladder.ir import dialect

# Those of ONNX Runtime's own that TVM knows.
CONTRIBUTED = {
    *("BiasGelu", "EmbedLayerNormalization", "FastGelu", "Gelu", "SkipLayerNormalization"),
}


def refuse_unknown(model: ir.Model) -> None:
    """Refuse a model with an operator that has no kernel, in branches too.

    TVM's importer looks at names only, so operators of other domains would be taken for others.
    """
    nodes = list(model.graph.all_nodes())
    unknown = sorted({_spelled(node) for node in nodes if not is_known(node.domain, node.op_type)})
    if unknown:
        first, *more = unknown
        raise no_kernel(f"{first} (and {', '.join(more)})" if more else first)
    if any(n.op_type == "Attention" and any(v.name for v in n.outputs[3:]) for n in nodes):
        raise no_kernel("Attention with the output qk_matmul_output")


def is_known(domain: str, op: str) -> bool:
    """Whether there is a converter; the dialect's operators are known by their own checks."""
    if domain == dialect.DOMAIN:
        return True
    return op in _standard() if domain == "" else domain == "com.microsoft" and op in CONTRIBUTED


@cache
def _standard() -> frozenset[str]:
    # The plug-in adds to TVM's table, so it cannot be read while modules are imported.
    return frozenset({*onnx_frontend._get_convert_map(), *CONVERTERS, "If", "Constant"})


def _spelled(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
