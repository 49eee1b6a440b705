"""Add measured scores to the model, as the fact ``Sensitivity``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.facts import Sensitivity
from ladder.ir.site import find_sites
from ladder.passes.infra.base import Facts, Pass
from ladder.support.documents import is_number, parse_json


@dataclass(frozen=True)
class MeasureSensitivity(Pass):
    """Read ``file``: JSON of the fact, as ``ladder.sensitivity.measure`` returned it.

    Measuring needs the tokenizer, ONNX Runtime and minutes of a machine (or a cluster), but a pass
    has only the model. So the pipeline measures, and this pass adds the result.
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
    """The fact from a file; a file that holds something else is refused."""
    if not path.is_file():
        raise LadderError(f"{path}: no such file; measure first")
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        fact = Sensitivity(**found.get("Sensitivity", found))
        scores = {
            site: {type: _floats(row) for type, row in types.items()}
            for site, types in fact.scores.items()
        }
        measured = all(fact.metric in row for types in scores.values() for row in types.values())
    except (ValueError, AttributeError, TypeError) as error:
        raise LadderError(f"{path}: not a file of sensitivity scores; measure again") from error
    if not fact.scores or not measured:
        raise LadderError(f"{path}: the scores lack their metric '{fact.metric}'; measure again")
    return replace(fact, scores=scores)


def _floats(row: Mapping[str, Any]) -> dict[str, float]:
    """Whole numbers of a JSON file may have more digits than NumPy's."""
    if not all(map(is_number, row.values())):
        raise ValueError("a score that is no number")
    return {metric: float(score) for metric, score in row.items()}
