"""The whole compiler on one page: its phases in order, each a tuple of passes.

    source -> PREPARE -> ALLOCATE -> mux outliers -> calibrate -> ROUND -> STORE -> LOWER -> kernels

``compile`` runs all of them. ``quantize`` leaves out STORE and LOWER and writes an ONNX file.
``plan`` runs PREPARE and replaces ALLOCATE by its search. The plug-in for TVM runs ALLOCATE, ROUND
and LOWER over the products that it finds in a Relax module. Calibration, between ALLOCATE and
ROUND, is not a pass because it needs data: it is in ``ladder.pipeline.steps``.
"""

from __future__ import annotations

from ladder.options.requests import CompileOptions, QuantizeOptions
from ladder.options.sites import SiteOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.bind_shapes import BindShapes
from ladder.passes.clean_up import CleanUp
from ladder.passes.expand_operators import ExpandOperators
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.gather_experts import GatherExperts
from ladder.passes.infra.base import Pass
from ladder.passes.lower_convolutions import LowerConvolutions
from ladder.passes.lower_types import LowerTypes
from ladder.passes.move_weight_to_rhs import MoveWeightToRhs
from ladder.passes.roll_windows import RollWindows
from ladder.passes.round_weights import RoundWeights
from ladder.passes.split_experts import SplitExperts
from ladder.passes.stack_products import StackProducts
from ladder.passes.store_states import StoreStates

Phase = tuple[Pass, ...]

# For compilation: simplify the model, and leave only operators that have kernels.
PREPARE: Phase = (CleanUp(), FuseOperators(), GatherExperts())
# For an ONNX file: change nothing but products that have their weight as the first operand.
PREPARE_FILE: Phase = (MoveWeightToRhs(),)


def split_experts(patterns: tuple[str, ...]) -> Phase:
    """The start of ALLOCATE: experts that are named become sites of their own."""
    return (SplitExperts(patterns),)


def allocate(options: CompileOptions | QuantizeOptions) -> Phase:
    """ALLOCATE by the options. Where there is a plan, ``put_plan`` is called instead."""
    return (AllocateUniform(options.type, options.keep, options.rules),)


def round_weights(options: SiteOptions) -> Phase:
    """ROUND."""
    return (RoundWeights(options.rounding),)


def round_and_stack(options: SiteOptions) -> Phase:
    """ROUND for kernels: products that share an activation become one product."""
    return (*round_weights(options), StackProducts())


def store(options: CompileOptions) -> Phase:
    """STORE: what a language model carries along, by the options."""
    return (RollWindows(options.chunk), StoreStates(options.kv_type))


def lower(options: CompileOptions, dims: str) -> Phase:
    """LOWER for one function, whose open dimensions have the sizes ``dims``."""
    return (*bind(dims), LowerConvolutions(), *lower_products(options))


def bind(dims: str) -> Phase:
    """The first part of LOWER, alone where the float graph is compared with ONNX Runtime."""
    return (BindShapes(dims), ExpandOperators())


def lower_products(options: CompileOptions) -> Phase:
    """LOWER for products only: a Relax module has its shapes bound and no other operators."""
    return (LowerTypes(options.activation, options.scheme),)
