"""The whole compiler on one page: its phases in order, each a flat tuple of passes.

    source -> PREPARE -> ALLOCATE -> mux outliers -> calibrate -> ROUND -> LOWER -> kernels

``compile`` takes all of them, ``quantize`` leaves out LOWER and writes an ONNX file instead,
``plan`` takes PREPARE and replaces ALLOCATE by its search, the plug-in for TVM takes ALLOCATE,
ROUND and LOWER over the products that it finds in a Relax module. Between ALLOCATE and ROUND a
model is calibrated, which is no pass since it needs data: ``ladder.pipeline.steps`` has that.
"""

from __future__ import annotations

from ladder.options.requests import CompileOptions, QuantizeOptions, SiteOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.bind_shapes import BindShapes
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.infra.base import Pass
from ladder.passes.lower_convolutions import LowerConvolutions
from ladder.passes.lower_types import LowerTypes
from ladder.passes.move_weight_to_rhs import MoveWeightToRhs
from ladder.passes.round_weights import RoundWeights
from ladder.passes.stack_products import StackProducts

Phase = tuple[Pass, ...]

# A model that is compiled: in its simplest form, with the operators that have kernels.
PREPARE: Phase = (CleanUp(), FuseOperators())
# A file that is quantized: it stays as it is, but for products that have their weight first.
PREPARE_FILE: Phase = (MoveWeightToRhs(),)


def allocate(options: CompileOptions | QuantizeOptions) -> Phase:
    """ALLOCATE by options; where there is a plan, ``put_plan`` takes its place."""
    return (AllocateUniform(options.type, options.keep, options.rules),)


def round_weights(options: SiteOptions) -> Phase:
    """ROUND."""
    return (RoundWeights(options.rounding),)


def round_and_stack(options: SiteOptions) -> Phase:
    """ROUND for kernels: products that share an activation become one."""
    return (*round_weights(options), StackProducts())


def lower(options: CompileOptions, dims: str) -> Phase:
    """LOWER for one function, whose open dimensions have the sizes ``dims``."""
    return (BindShapes(dims), LowerConvolutions(), *lower_products(options))


def lower_products(options: CompileOptions) -> Phase:
    """LOWER for products alone: in a Relax module shapes are bound and there are no others."""
    return (LowerTypes(options.activation, options.scheme),)
