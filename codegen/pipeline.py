"""Our Relax pipeline: legalize, fuse, give exp a vector form, plan memory, lower to VM calls."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx

from ladder.codegen.kernels.float_math import exp


def ladder_passes() -> list[Any]:
    """The passes in order, as TVM pass objects."""
    t = relax.transform
    return [
        # 1. operators to loops
        t.LegalizeOps(),
        t.AnnotateTIROpPattern(),
        t.FoldConstant(),
        t.RewriteDataflowReshape(),
        t.FuseOps(),
        t.FuseTIR(),
        ExpandExp(),
        # 2. to the virtual machine, memory planned
        t.ToNonDataflow(),
        t.RemovePurityChecking(),
        t.CallTIRRewrite(),
        t.StaticPlanBlockMemory(),
        t.LowerAllocTensor(),
        t.KillAfterLastUse(),
        t.LowerRuntimeBuiltin(),
        t.ComputePrimValue(),
        t.VMShapeLower(),
        t.AttachGlobalSymbol(),
    ]


@tvm.transform.module_pass(opt_level=0, name="LadderPipeline")
def ladder_pipeline(mod: Any, _context: Any) -> Any:
    """All of ``ladder_passes``, as one pass for ``tvm.compile(relax_pipeline=...)``."""
    return tvm.transform.Sequential(ladder_passes())(mod)


@tvm.transform.module_pass(opt_level=0, name="ExpandExp")
class ExpandExp:
    """Replace float32 ``exp`` and ``sigmoid`` by arithmetic, so that their loops vectorize.

    LLVM calls libm once an element otherwise, which costs more than the loop around it.
    """

    def transform_module(self, mod: Any, _context: Any) -> Any:
        for var, func in list(mod.functions.items()):
            if isinstance(func, tirx.PrimFunc):
                body = tirx.stmt_functor.ir_transform(func.body, None, _expand, ["tirx.Call"])
                mod[var] = func.with_body(body)
        return mod


def _expand(node: Any) -> Any:
    if not isinstance(node, tirx.Call) or str(node.dtype) != "float32":
        return None
    name = getattr(node.op, "name", "")
    if name == "tirx.exp":
        return exp(node.args[0])
    if name == "tirx.sigmoid":
        one = tirx.const(1.0, "float32")
        return one / (one + exp(tirx.const(0.0, "float32") - node.args[0]))
    return None
