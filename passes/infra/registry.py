"""The passes by name, and pipelines as text: ``clean-up,allocate-uniform{type=int4:g128}``."""

from __future__ import annotations

import re

from ladder.errors import LadderError
from ladder.passes.infra.base import Pass, make
from ladder.support.lookup import named
from ladder.support.suggest import did_you_mean

# A dict literal is easy to search, and --help imports nothing heavy.
PASSES = {
    "clean-up": "ladder.passes.clean_up:CleanUp",
    "fuse-operators": "ladder.passes.fuse_operators:FuseOperators",
    "gather-experts": "ladder.passes.gather_experts:GatherExperts",
    "split-experts": "ladder.passes.split_experts:SplitExperts",
    "move-weight-to-rhs": "ladder.passes.move_weight_to_rhs:MoveWeightToRhs",
    "measure-sensitivity": "ladder.passes.measure_sensitivity:MeasureSensitivity",
    "allocate-uniform": "ladder.passes.allocate_uniform:AllocateUniform",
    "allocate-bits": "ladder.passes.allocate_bits:AllocateBits",
    "mux-outliers": "ladder.passes.mux_outliers:MuxOutliers",
    "round-weights": "ladder.passes.round_weights:RoundWeights",
    "stack-products": "ladder.passes.stack_products:StackProducts",
    "roll-windows": "ladder.passes.roll_windows:RollWindows",
    "store-states": "ladder.passes.store_states:StoreStates",
    "bind-shapes": "ladder.passes.bind_shapes:BindShapes",
    "expand-operators": "ladder.passes.expand_operators:ExpandOperators",
    "lower-convolutions": "ladder.passes.lower_convolutions:LowerConvolutions",
    "lower-types": "ladder.passes.lower_types:LowerTypes",
}
RENAMED = {"weight-second": "move-weight-to-rhs"}


def pass_class(name: str) -> type[Pass]:
    """The class of a pass name."""
    if name in RENAMED:
        raise LadderError(f"pass '{name}' is now called '{RENAMED[name]}'")
    if name not in PASSES:
        near = did_you_mean(name, PASSES)
        raise LadderError(f"unknown pass '{name}'; one of: {', '.join(PASSES)}{near}")
    found: type[Pass] = named(PASSES[name])
    return found


def parse_pipeline(text: str) -> list[Pass]:
    """Read ``pass{option=value,...},pass,...`` into passes."""
    pattern = re.compile(r"\s*([a-z][a-z0-9-]*)(?:\{([^{}]*)\})?\s*(?:,|$)")
    passes, position = [], 0
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise LadderError(
                f"cannot read the pipeline at '{text[position : position + 30]}'; "
                "write pass{option=value,...},pass,..."
            )
        passes.append(make(pass_class(match[1]), _options(match[1], match[2] or "")))
        position = match.end()
    return passes


def _options(name: str, text: str) -> dict[str, str]:
    options = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise LadderError(f"pass {name}: option '{item}' has no value; write {item}=VALUE")
        options[key.strip()] = value.strip()
    return options
