"""Codes that a checkpoint stores in a type of Ladder: written next to the trace, and kept.

A weight of a trace has the values that its codes mean. If its site gets the type that it is stored
in, these very codes become the weight; nothing is rounded.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Choice, StoredCodes
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions, QuantizeOptions
from ladder.passes.allocate_uniform import UNIFORM
from ladder.support.progress import track

REASON = "kept: the checkpoint stores it in this type"


def write_codes(source: Source, folder: Path) -> None:
    """Write the codes of a source's weights into the folder of its trace."""
    for number, (name, read) in enumerate(track(list(source.codes.items()), "read the codes")):
        found, file = read(), f"codes.{number}.npz"
        found.save(folder / file)
        source.code_files[name] = (str(found.dtype), file)


def attach_codes(source: Source, folder: Path) -> None:
    """Add the fact StoredCodes to the model of a trace in ``folder``."""
    if not source.code_files:
        return
    types, files = {}, {}
    for site in find_sites(source.model)[0]:
        known = source.code_files.get(site.weight.name or "")
        if known is not None and not site.transposed:
            types[site.name] = DType.parse(known[0])
            files[site.name] = str(folder / known[1])
    facts.put(source.model, StoredCodes(types, files))


def keep_stored(model: ir.Model, options: CompileOptions | QuantizeOptions) -> None:
    """Give sites the type that the checkpoint stores them in, unless the options name one."""
    stored = facts.get(model, StoredCodes)
    if stored is None or options.type != type(options)().type:
        return
    plan = facts.need(model, BitPlan)
    own = {
        name: Choice(stored.types[name], REASON)
        for name, choice in plan.choices.items()
        if choice.reason == UNIFORM and name in stored.types
    }
    facts.put(model, BitPlan({**plan.choices, **own}))
