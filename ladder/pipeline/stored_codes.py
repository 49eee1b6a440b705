"""Codes that a checkpoint stores in a type of Ladder: written next to the trace, and kept.

A weight of a trace has the values that its codes mean. If its site gets the type that it is stored
in, these very codes become the weight; nothing is rounded.
"""

from __future__ import annotations

from pathlib import Path

from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import StoredCodes
from ladder.ir.site import find_sites
from ladder.support.progress import track


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
