"""Rounding methods as values: what each needs, its help, and the function that rounds.

A new method is one file and one row here. Help texts are made from this module, so it imports
little: the code of a method is imported when it is first called.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError
from ladder.support.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ladder.ir.dtype import DType
    from ladder.passes.rounding.matrix import Rounded

    # (weight [N, K], type, Hessian [K, K] or None where the method needs none)
    Round = Callable[[np.ndarray, DType, Any], Rounded]

# A Hessian of fewer tokens than a few times its columns fits the text more than the model.
LEAST_TOKENS = 8192


class Needs(Enum):
    """What a method needs to know in addition to the weight."""

    NOTHING = "nothing"
    HESSIANS = "Hessians"
    MODEL = "the whole model"

    @property
    def hessians(self) -> bool:
        """Whether the Hessians of the sites' inputs are collected on calibration data."""
        return self is not Needs.NOTHING

    @property
    def model(self) -> bool:
        """Whether the weights are rounded together, before the pass that puts them in."""
        return self is Needs.MODEL


@dataclass(frozen=True)
class Start:
    """A method starts from the weights of another, calibrated on exactly so many tokens."""

    method: str
    tokens: int


@dataclass(frozen=True)
class WholeModel:
    """How a whole model is rounded, by texts ``module:function``: passes do not import calibration.

    ``make`` takes the source, its data, site -> type, and its start: the result of ``start`` if
    there is one, else the Hessians. ``check`` takes the source and site -> type, and refuses what
    is not possible before any work is done.
    """

    make: str
    check: str = ""
    start: Start | None = None


@dataclass(frozen=True)
class Method:
    """One way to round weights.

    ``round`` rounds one weight; a method that chooses ``among`` others has none. Methods for the
    whole model also round single weights by it, for measurements of one site. ``tokens`` is the
    least number of calibration tokens that the method reads.
    """

    name: str
    help: str
    needs: Needs
    round: Round | None = None
    among: tuple[str, ...] = ()
    tokens: int = LEAST_TOKENS
    whole: WholeModel | None = None

    @property
    def start(self) -> Start | None:
        """The method whose weights this one starts from, if any."""
        return self.whole.start if self.whole else None

    @property
    def planned_as(self) -> str:
        """The method by which plans are evaluated: the start of a method that takes long."""
        return self.start.method if self.start else self.name


def _rtn(weight: np.ndarray, dtype: DType, _: Any) -> Rounded:
    from ladder.passes.rounding.matrix import rtn

    return rtn(weight, dtype)


def _mse(weight: np.ndarray, dtype: DType, _: Any) -> Rounded:
    from ladder.passes.rounding.matrix import mse

    return mse(weight, dtype)


def _gptq(weight: np.ndarray, dtype: DType, hessian: Any) -> Rounded:
    from ladder.passes.rounding.gptq import gptq

    return gptq(weight, dtype, hessian)


_ROWS = (
    Method("rtn", "round to nearest", Needs.NOTHING, _rtn),
    Method("mse", "the scale with the least error of the weights", Needs.NOTHING, _mse),
    Method("gptq", "the least error of the products on --calib", Needs.HESSIANS, _gptq),
    Method(
        "gptaq",
        "like gptq, and each layer also compensates for the error of the layers before it",
        Needs.MODEL,
        _gptq,
        whole=WholeModel("ladder.calibration.gptaq:round_in_order"),
    ),
    Method(
        "best",
        "for each site, the one of rtn, mse and gptq with the least error of the products",
        Needs.HESSIANS,
        among=("rtn", "mse", "gptq"),
    ),
    Method(
        "learned",
        "continues from gptaq by gradients through the whole model (needs torch, takes long)",
        Needs.MODEL,
        _gptq,
        tokens=1 << 18,  # each is used once per epoch
        whole=WholeModel(
            "ladder.calibration.learned.result:learned_of",
            "ladder.calibration.learned.result:check_learnable",
            Start("gptaq", 32768),
        ),
    ),
)
METHODS = {method.name: method for method in _ROWS}
UNCALIBRATED = "mse"  # for weights without a Hessian
# By effort (``ladder.options.effort``): how plans of language models are rounded.
BY_EFFORT = {"quick": "gptq", "normal": "gptq", "thorough": "gptaq"}
QUICKEST = "rtn"  # where the values of weights do not matter
CALIBRATED_EXAMPLE = next(method.name for method in _ROWS if method.needs.hessians)  # for messages


def find_method(name: str) -> Method:
    """The method of this name; refused where there is none."""
    if name not in METHODS:
        near = did_you_mean(name, METHODS)
        raise LadderError(f"unknown rounding '{name}'; one of: {', '.join(METHODS)}{near}")
    return METHODS[name]


def check_method(name: str) -> None:
    """Refuse an unknown rounding method."""
    find_method(name)


def methods_help() -> str:
    """Every method in a few words, for the help of an option."""
    return "; ".join(f"{method.name}: {method.help}" for method in METHODS.values()) + "."
