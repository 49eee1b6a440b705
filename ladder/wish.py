"""What a user asks of a compilation."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.errors import LadderError
from ladder.ir.activation import check as check_activation
from ladder.ir.dtype import DType
from ladder.passes.patterns import parse_rules
from ladder.passes.rounding import METHODS
from ladder.targets import NATIVE


@dataclass(frozen=True)
class Wish:
    """What the user asked of a compilation. Defaults are reported as assumed."""

    type: str = "int4:g128"
    target: str = NATIVE
    rounding: str = "mse"
    activation: str = "int8"
    scheme: str = "auto"
    context: int = 2048
    chunk: int = 64
    dims: str = ""
    keep: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    plan: str = ""

    def check(self) -> None:
        """Refuse what cannot be meant before anything is loaded."""
        if DType.parse(self.type).is_float:
            raise LadderError(f"type '{self.type}' is a float: there is nothing to quantize to")
        parse_rules("|".join(self.rules))
        if self.plan and (self.rules or self.keep or self.type != Wish.type):
            raise LadderError("--plan says every site's type: leave out --type, --rule and --keep")
        check_activation(self.activation)
        if self.rounding not in METHODS:
            raise LadderError(f"unknown rounding '{self.rounding}'; one of: {', '.join(METHODS)}")
        for name in ("context", "chunk"):
            if getattr(self, name) < 1:
                raise LadderError(f"--{name} {getattr(self, name)}: give a positive number")

    @property
    def elements(self) -> list[str]:
        """The names of the elements that it speaks of."""
        texts = [self.type, *(rule.partition("=")[2] for rule in self.rules)]
        return sorted({DType.parse(text).name for text in texts})
