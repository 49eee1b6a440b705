"""The options about the sites of a model that compiling, quantizing and planning share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError
from ladder.options.effort import NORMAL, check_effort, effort_help
from ladder.options.schema import LANGUAGE_MODELS, described, option, read, read_all
from ladder.passes.rounding.methods import methods_help

if TYPE_CHECKING:
    from ladder.passes.infra.patterns import Rule

FLOAT, NO_REMEDY = "fp32", "none"
AUTO = "auto"  # as a rounding method: chosen when the model is known
TYPES, DATA, COMPUTE = "Types", "Calibration data", "How it is computed"


@dataclass(frozen=True)
class SiteOptions:
    """Options about the sites of a model, common to all commands."""

    keep: tuple[str, ...] = option(
        (),
        "Sites, roles or operators that stay float: a name or a pattern with * and ?. Repeatable.",
        panel=TYPES,
        plugin=True,
    )
    rules: tuple[Rule, ...] = option(
        (),
        "PATTERN=TYPE: another type for some sites or roles, e.g. lm_head=int8:row. Repeatable;"
        " a later rule wins.",
        flags=("--rule",),
        metavar="PATTERN=TYPE",
        panel=TYPES,
        plugin=True,
        accepts="Mapping[str, DType | str]",
    )
    rounding: str = option(
        AUTO,
        "How weights are rounded. auto: as --effort says in plans of language models, else mse. "
        f"{methods_help()}",
        panel=TYPES,
        plugin=True,
    )
    effort: str = option(NORMAL, effort_help(), panel=DATA, reported=False, changes_result=False)
    outliers: str = option(
        NO_REMEDY,
        "How to treat activation channels that are far larger than the others. "
        "digits or muxq: represent them as several integers. smooth: scale them down and the "
        "weights up. none: nothing. auto: the best of these for each product, measured on --calib.",
        panel=COMPUTE,
    )
    calib: Path | None = option(
        None,
        "Calibration data: a text file (UTF-8 or JSONL) for a language model, an NPZ file "
        "with samples of the inputs for other models.",
        metavar="FILE",
        panel=DATA,
        changes_result=False,  # its contents count, not its name
    )
    windows: int = option(
        4, "Number of windows of the calibration text.", least=1, panel=DATA,
        only=LANGUAGE_MODELS,
    )  # fmt: skip
    tokens: int = option(128, "Tokens in each window.", least=2, panel=DATA, only=LANGUAGE_MODELS)
    chosen: tuple[str, ...] = field(default=(), repr=False)  # options that Ladder chose itself

    def __post_init__(self) -> None:
        read_all(self)

    @property
    def mode(self) -> str:
        """How products round their activations; ``fp32`` for options without a target."""
        from ladder.ir.activation import check

        return check(str(getattr(self, "activation", FLOAT)))

    @property
    def observed(self) -> bool:
        """Whether activations are measured, for their outliers or for static scales."""
        from ladder.ir.activation import QUANTIZED, STATIC

        kind = QUANTIZED.get(self.mode)
        return kind is not None and (self.outliers != NO_REMEDY or kind.granularity == STATIC)

    @property
    def calibrated(self) -> bool:
        """Whether the calibration data is used."""
        from ladder.passes.rounding.methods import find_method

        by_rounding = self.rounding != AUTO and find_method(self.rounding).needs.hessians
        return by_rounding or self.observed

    @property
    def _may_be_calibrated(self) -> bool:
        """Whether a calibrated rounding may be chosen when the model and the plan are known."""
        planned = getattr(self, "plan", None) is not None
        return self.rounding == AUTO and (planned or self.effort != NORMAL)

    def check(self) -> None:
        """Refuse an invalid combination before anything is loaded."""
        from ladder.ir.activation import QUANTIZED
        from ladder.passes.allocation.budget import HINT
        from ladder.passes.muxing.remedies import check_remedy
        from ladder.passes.rounding.methods import CALIBRATED_EXAMPLE, check_method

        if self.rounding != AUTO:
            check_method(self.rounding)
        check_effort(self.effort)
        check_remedy(self.outliers)
        if self.outliers != NO_REMEDY and self.mode not in QUANTIZED:
            raise LadderError(
                f"--outliers {self.outliers}: {self.mode} activations are not rounded to integers; "
                "give --activation int8, int8:token or int8:tensor"
            )
        needless = not self.calibrated and not getattr(self, "bench", False)
        if self.calib is not None and needless and not self._may_be_calibrated:
            raise LadderError(
                f"--calib {self.calib}: nothing is calibrated; give a budget ({HINT}) or "
                f"--rounding {CALIBRATED_EXAMPLE}"
            )

    def assumed(self, language_model: bool) -> dict[str, Any]:
        """The options that are at their default and that matter for such a model."""
        unused = () if self.calibrated else ("windows", "tokens")
        found: dict[str, Any] = {}
        for name, about in described(type(self)).items():
            value = getattr(self, name)
            empty = value in ("", (), None)
            concerns = about.option.reported and about.applies(language_model)
            if concerns and name not in unused and not empty:
                ours = name in self.chosen or value == read(about, about.default)
                found |= {name: value} if ours else {}
        return found
