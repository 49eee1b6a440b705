"""What a user asks: of a compilation, of an ONNX file, of a plan; and which option asks what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ladder.errors import LadderError
from ladder.hardware.targets import NATIVE, levels_of
from ladder.ir.activation import FLOAT, QUANTIZED, STATIC
from ladder.ir.activation import check as check_activation
from ladder.ir.dtype import DType
from ladder.passes.allocation.budget import BUDGET, HINT, Budget
from ladder.passes.allocation.parts import candidates
from ladder.passes.allocation.units import parse_time
from ladder.passes.infra.patterns import parse_rules
from ladder.passes.muxing.remedies import NONE, check_remedy
from ladder.passes.rounding.methods import CALIBRATED_EXAMPLE, check_method, find_method

DEFAULT_TYPES = ("int2:g64:fp16", "int3:g64:fp16", "int4:g64:fp16", "int8:row")
LEAST = {"context": 1, "chunk": 1, "windows": 1, "tokens": 2, "refine": 0}
# Not part of a result, so not worth to be told as assumed.
SILENT = frozenset(
    {"workers", "verify", "refine", "long_tokens", "pareto", "state", "scheme", "accuracy_level"}
)


@dataclass(frozen=True)
class SiteWish:
    """What every wish says of the sites."""

    rounding: str = "mse"
    keep: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    calib: Path | None = None
    windows: int = 8
    tokens: int = 128
    outliers: str = NONE

    @property
    def mode(self) -> str:
        """What products round their activations to; those that know no target, to nothing."""
        return check_activation(str(getattr(self, "activation", FLOAT)))

    @property
    def observed(self) -> bool:
        """Whether activations are looked at: for their outliers, or for scales fixed before."""
        kind = QUANTIZED.get(self.mode)
        return kind is not None and (self.outliers != NONE or kind.granularity == STATIC)

    @property
    def calibrated(self) -> bool:
        """Whether the calibration data is used."""
        return find_method(self.rounding).needs.hessians or self.observed

    def check(self) -> None:
        """Refuse what cannot be meant before anything is loaded."""
        parse_rules("|".join(self.rules))
        check_method(self.rounding)
        check_remedy(self.outliers)
        if self.outliers != NONE and self.mode not in QUANTIZED:
            raise LadderError(
                f"--outliers {self.outliers}: {self.mode} activations are not rounded to integers; "
                "give --activation int8, int8:token or int8:tensor"
            )
        if self.calib is not None and not self.calibrated:
            raise LadderError(
                f"--calib {self.calib}: nothing is calibrated; give a budget ({HINT}) or "
                f"--rounding {CALIBRATED_EXAMPLE}"
            )
        for name, least in LEAST.items():
            if getattr(self, name, least) < least:
                what = "a positive number" if least == 1 else f"{least} or more"
                raise LadderError(f"--{name} {getattr(self, name)}: give {what}")

    def assumed(self) -> dict[str, Any]:
        """The options that are at their default, where there is something to tell."""
        found = {f.name: f.default for f in fields(self) if getattr(self, f.name) == f.default}
        unused = () if self.calibrated else ("windows", "tokens")
        silent = {*SILENT, *unused}
        return {k: v for k, v in found.items() if k not in silent and v not in ("", (), None)}


@dataclass(frozen=True)
class TargetWish(SiteWish):
    """And what those say that know the target."""

    target: str = NATIVE
    activation: str = "int8"
    chunk: int = 64

    def check(self) -> None:
        super().check()
        check_activation(self.activation)
        levels_of(self.target)


@dataclass(frozen=True)
class Wish(TargetWish):
    """What the user asked of a compilation. Defaults are reported as assumed."""

    type: str = "int4:g128"
    scheme: str = "auto"
    context: int = 2048
    dims: str = ""
    plan: str = ""

    def check(self) -> None:
        super().check()
        _check_type(self)

    @property
    def elements(self) -> list[str]:
        """The names of the elements that it speaks of."""
        texts = [self.type, *(rule.partition("=")[2] for rule in self.rules)]
        return sorted({DType.parse(text).name for text in texts})


@dataclass(frozen=True)
class FileWish(SiteWish):
    """What the user asked of an ONNX file."""

    type: str = "int4:g32"
    format: str = "qdq"
    accuracy_level: int = 0
    activation: str = FLOAT
    plan: str = ""

    def check(self) -> None:
        super().check()
        check_activation(self.activation)
        _check_type(self)


@dataclass(frozen=True)
class PlanWish(TargetWish):
    """What is asked of a plan; texts as on the command line, empty where nothing is asked."""

    size: str = ""
    bpw: str = ""
    latency: str = ""
    max_kl: str = ""
    prefer: str = ""
    minimise: str = ""
    types: tuple[str, ...] = DEFAULT_TYPES
    workers: str = "0"
    state: Path | None = None
    costs: Path | None = None
    rest: str = ""
    pareto: bool = False
    verify: bool = True
    refine: int = 0
    long_tokens: int = 0

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def budget(self) -> Budget | None:
        """None where the front alone is asked for."""
        texts = {name: getattr(self, name) for name in BUDGET}
        return None if self.pareto and not any(texts.values()) else Budget.of(texts)

    @property
    def timed(self) -> bool:
        """Whether times are worth measuring: they are asked for, or drawn."""
        budget = self.budget
        return self.pareto or self.costs is not None or (budget is not None and budget.timed)

    def check(self) -> None:
        _ = self.budget
        candidates(self.types)
        super().check()
        if self.rest:
            parse_time("--rest", self.rest)
        if self.refine and not self.verify:
            raise LadderError("--refine runs plans, --no-verify forbids it: leave out one")
        if self.long_tokens and self.long_tokens <= self.tokens:
            raise LadderError(
                f"--long-tokens {self.long_tokens}: give more than --tokens {self.tokens}, or 0"
            )

    def assumed(self) -> dict[str, Any]:
        found = super().assumed()
        timed = set() if self.timed else {"target", "activation", "chunk"}
        return {k: v for k, v in found.items() if k not in timed}


W = TypeVar("W", Wish, FileWish)
K = TypeVar("K", bound=SiteWish)


def wish_of(options: Mapping[str, Any], kind: type[K]) -> K:
    """The options as a wish. Paths may be texts, several texts one; an unknown one is refused."""
    known = {f.name: str(f.type) for f in fields(kind)}
    _refuse_unknown(options, known)
    return kind(**{name: _value(name, known[name], value) for name, value in options.items()})


def split(options: Mapping[str, Any], kind: type[W]) -> tuple[W, PlanWish | None]:
    """Options of a compilation in one step: its own, and those of the plan that a budget asks for.

    Empty options ask nothing. Refuses those of a plan without a budget, and a budget where the
    types are given already.
    """
    asked = {name: value for name, value in options.items() if value not in ("", (), [], None)}
    own, plan = ({f.name for f in fields(cls)} for cls in (kind, PlanWish))
    _refuse_unknown(asked, own | plan)
    mine = {k: v for k, v in asked.items() if k in own}
    planning = [name for name in asked if name in plan - own]
    budget = [name for name in planning if name in BUDGET]
    if not planning:
        return wish_of(mine, kind), None
    if not budget:
        raise LadderError(f"{_option(planning[0])} is about a plan: ask for one with {HINT}")
    for name in ("type", "plan"):
        if name in asked:
            hint = "restrict its choice with --types" if name == "type" else "it was made for one"
            raise LadderError(
                f"{_option(budget[0])} and {_option(name)} both say the sites' types: "
                f"leave out one ({hint})"
            )
    wish = wish_of(mine, kind)
    if not wish.calibrated:  # the text is the plan's alone
        wish = replace(wish, calib=None)
    return wish, wish_of({k: v for k, v in asked.items() if k in plan}, PlanWish)


def _check_type(wish: Wish | FileWish) -> None:
    if DType.parse(wish.type).is_float:
        raise LadderError(f"type '{wish.type}' is a float: there is nothing to quantize to")
    if wish.plan and (wish.rules or wish.keep or wish.type != type(wish).type):
        raise LadderError("--plan says every site's type: leave out --type, --rule and --keep")


def _option(name: str) -> str:
    singular = {"rules": "rule", "dims": "dim"}
    return f"--{singular.get(name, name).replace('_', '-')}"


def _refuse_unknown(options: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise LadderError(f"no wish '{unknown[0]}'; the wishes are: {', '.join(sorted(known))}")


def _value(name: str, kind: str, value: Any) -> Any:
    """By the field's type: a text may stand for several, or for a path."""
    if kind.startswith("tuple") and isinstance(value, str):
        return tuple(filter(None, value.split(","))) if name == "types" else (value,)
    if kind.startswith("tuple"):
        return tuple(value)
    if kind.startswith("Path") and isinstance(value, str):
        return Path(value)
    return str(value) if kind == "str" else value  # a number, a path
