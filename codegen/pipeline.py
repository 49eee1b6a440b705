"""Our Relax pipeline: legalize with exp in vector form, fuse, plan memory, lower to VM calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tvm
from tvm import relax, te

from ladder.codegen.kernels.float_math import exp, free_plus, sigmoid


def _elementwise(scalar: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def legalize(builder: Any, call: Any) -> Any:
        def compute(x: Any) -> Any:
            return te.compute(x.shape, lambda *i: scalar(x(*i)))

        x = call.args[0]
        return builder.call_te(compute, x) if x.ty.dtype.dtype == "float32" else call

    return legalize


# LLVM calls libm once per element for exp, which costs more than the loop around it.
VECTOR_FORMS = {
    "relax.exp": _elementwise(partial(exp, plus=free_plus)),
    "relax.sigmoid": _elementwise(partial(sigmoid, plus=free_plus)),
    "relax.nn.silu": _elementwise(lambda x: x * sigmoid(x, plus=free_plus)),
}


def ladder_passes() -> list[Any]:
    """The passes in order, as TVM pass objects."""
    t = relax.transform
    return [
        # 1. operators to loops
        relax.backend.DispatchSortScan(),  # cumulative sums, which LegalizeOps does not know
        t.LegalizeOps(VECTOR_FORMS),
        t.AnnotateTIROpPattern(),
        t.FoldConstant(),
        t.RewriteDataflowReshape(),
        t.FuseOps(),
        t.FuseTIR(),
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


@tvm.transform.module_pass(opt_level=0, name="LadderPipeline")  # type: ignore[untyped-decorator]
def ladder_pipeline(mod: Any, _context: Any) -> Any:
    """All of ``ladder_passes``, as one pass for ``tvm.compile(relax_pipeline=...)``."""
    return tvm.transform.Sequential(ladder_passes())(mod)
