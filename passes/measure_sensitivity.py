"""Put scores that were measured on the model, as the fact ``Sensitivity``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.facts import Sensitivity
from ladder.ir.site import find_sites
from ladder.passes.infra.base import Facts, Pass


@dataclass(frozen=True)
class MeasureSensitivity(Pass):
    """Read ``file``: JSON of the fact, as ``ladder.sensitivity.measure`` returned it.

    Measuring itself needs the tokenizer, ONNX Runtime and a machine (or a cluster) for minutes;
    a pass has the model alone. So the driver measures, and this pass hands the result on.
    """

    file: str
    gives: ClassVar[Facts] = (Sensitivity,)

    def run(self, model: ir.Model) -> None:
        found = read_sensitivity(Path(self.file))
        sites = {site.name for site in find_sites(model)[0]}
        strangers = [name for name in found.scores if name not in sites]
        if strangers:
            raise LadderError(
                f"{self.file}: has scores of '{strangers[0]}', which this model does not have: "
                "it was measured on another model"
            )
        unknown = sorted(sites - found.scores.keys())
        if unknown:
            raise LadderError(
                f"{self.file}: has no scores of site '{unknown[0]}': "
                "it was measured on another model"
            )
        facts.put(model, found)


def read_sensitivity(path: Path) -> Sensitivity:
    """The fact from a file, refused plainly where it holds something else."""
    if not path.is_file():
        raise LadderError(f"{path}: no such file; measure first")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fact = Sensitivity(**found.get("Sensitivity", found))
        measured = all(fact.metric in row for site in fact.scores.values() for row in site.values())
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise LadderError(f"{path}: not the JSON of a sensitivity; measure again") from error
    if not fact.scores or not measured:
        raise LadderError(f"{path}: a sensitivity without its measure '{fact.metric}'")
    return fact
