"""Facts: results of analyses, as typed data on the model, by names of sites.

A fact is a frozen dataclass that a pass attaches to the model. It survives rewriting because it
names sites, not nodes. ``dump`` prints facts, and ``to_json`` saves them in artifacts and files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log2
from typing import Any, TypeVar

import onnx_ir as ir

from ladder.ir.dtype import DType

F = TypeVar("F")
_KEY = "ladder.fact."
METADATA_KEY = "ladder.facts"
RENAMED = {"LeftAlone": "Skipped", "Finished": "PreRounded"}


@dataclass(frozen=True)
class Choice:
    """The type of a site in the plan, and the reason."""

    type: DType
    reason: str


@dataclass(frozen=True)
class BitPlan:
    """The type of each site, by site name."""

    choices: Mapping[str, Choice] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """The nodes that are not changed, by site name, with the reason."""

    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rounding:
    """How each weight was rounded, and the relative error of its values (root mean square).

    With calibration, ``output_errors`` has the relative error of the site's products on the
    calibration data for each method that was tried, and ``calibrated`` has the name and the tokens
    of the data. ``notes`` report deviations from the options, ``whole`` is about all weights.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    output_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    calibrated: Mapping[str, int] = field(default_factory=dict)
    whole: str = ""


@dataclass(frozen=True)
class Hessians:
    """The mean of x x' of each site's inputs: site -> NumPy file of [K, K] float32.

    ``missing`` has the reasons why sites have none. ``tokens`` and ``text`` describe the data.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True)
class PreRounded:
    """Weights that were rounded before ``round-weights``: site -> file of its codes and scales.

    ``note`` describes how, for the report.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class StoredCodes:
    """Weights that the checkpoint stores as codes: site -> their type and the file they are in."""

    types: Mapping[str, DType] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sensitivity:
    """The loss of the output when a single site has a type and everything else is float.

    ``scores`` is site -> type -> measure -> value. ``metric`` is the measure that allocation
    minimises: ``kl`` (nats per token, KL(quantized || float)), or ``mse`` if the output is not a
    distribution. ``tokens`` and ``text`` describe the data.
    """

    metric: str
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True)
class ProductCosts:
    """Seconds of one product: type -> ``NxK`` -> seconds at M=1 and at the prefill chunk.

    ``source`` says where they come from: measured here, read from a device's file, or a model.
    """

    decode: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prefill: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Allocation:
    """The predicted totals of a plan, and those of the uniform plans.

    ``predicted`` and each row of ``uniform`` (by type) have ``loss`` (in ``metric``), ``bytes`` of
    all weights, ``bpw`` with scales, ``seconds`` per decoded token and ``prefill`` seconds per
    prefill chunk. Times are present if the costs of products are known. ``least`` is the least
    reachable value of each. ``fitting`` names the types of the uniform plans within the budget.
    """

    asked: str
    minimised: str
    metric: str
    status: str
    predicted: Mapping[str, float] = field(default_factory=dict)
    uniform: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    fitting: tuple[str, ...] = ()
    costs: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MuxedSite:
    """The outlier channels of a site's activation, ascending, and their representation.

    ``mux`` is the text of a ``ladder.ir.mux.Mux``.
    """

    mux: str
    channels: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Muxing:
    """The sites whose outlier channels are muxed, by name."""

    sites: Mapping[str, MuxedSite] = field(default_factory=dict)


@dataclass(frozen=True)
class StaticScales:
    """The static scale of each site's activation, by site name."""

    scales: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ActivationRanges:
    """The range of each value that static codes represent: value name -> (low, high).

    ``text`` and ``samples`` describe the data.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    text: str = ""
    samples: int = 0


@dataclass(frozen=True)
class KernelChoice:
    """How a product is computed: ``lut``, ``dot``, ``tile`` or ``fp32``, activations, reason."""

    scheme: str
    activation: str
    reason: str


@dataclass(frozen=True)
class Kernels:
    """The kernel of each site, by site name."""

    choices: Mapping[str, KernelChoice] = field(default_factory=dict)


@dataclass(frozen=True)
class Stacked:
    """Products that were stacked: name of the stack -> its sites, in order of rows.

    ``reasons`` says why other sites that share an activation were not stacked.
    """

    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Windows:
    """The masks of attention by which a token sees the last keys only: value -> how many.

    ``others`` hide some of the earlier keys in another way.
    """

    masks: Mapping[str, int] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """A target for passes: its name, the abilities of its kernels, and measured costs.

    ``costs`` is element -> scheme -> M -> seconds of a product of the size that ``measured`` names
    (or ``origins``, for elements that were measured separately). Only their ratios are used.
    """

    name: str = "any target"
    costs: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    measured: str = ""
    schemes: tuple[str, ...] = ("lut", "dot")
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, element: str) -> str:
        """The origin of an element's times, as text for reports."""
        return self.origins.get(element, self.measured)

    def seconds(self, element: str, scheme: str, m: int | None) -> float | None:
        """The time measured at the M closest to ``m``; None if there is none."""
        found = self.costs.get(element, {}).get(scheme)
        return found[self.measured_at(element, scheme, m)] if found and m is not None else None

    def measured_at(self, element: str, scheme: str, m: int) -> int:
        """The measured M that is closest to ``m``."""
        return min(self.costs[element][scheme], key=lambda known: abs(log2(known) - log2(m)))


def put(model: ir.Model, fact: object) -> None:
    """Attach ``fact``, replacing an older one of the same type."""
    model.meta[_KEY + type(fact).__name__] = fact


def drop(model: ir.Model, kind: type) -> None:
    """Remove the fact of this type from the model, if it is there."""
    model.meta.pop(_KEY + kind.__name__, None)


def get(model: ir.Model, kind: type[F]) -> F | None:
    """The fact of this type, or None."""
    fact = model.meta.get(_KEY + kind.__name__)
    return fact if isinstance(fact, kind) else None


def need(model: ir.Model, kind: type[F]) -> F:
    """The fact of this type, for code that runs after the pass that attaches it."""
    fact = get(model, kind)
    if fact is None:
        raise LookupError(f"the model has no fact {kind.__name__}: no pass has attached it yet")
    return fact


def all_facts(model: ir.Model) -> list[object]:
    """Every fact on the model, by name."""
    return [model.meta[key] for key in sorted(model.meta) if key.startswith(_KEY)]


def clone(model: ir.Model) -> ir.Model:
    """A copy of the model with its facts; weights are shared."""
    copy = model.clone()
    copy.meta.update({key: value for key, value in model.meta.items() if key.startswith(_KEY)})
    return copy


def to_json(model: ir.Model) -> str:
    """All facts as JSON text: {fact name: its fields}."""
    return json.dumps({type(fact).__name__: plain(fact) for fact in all_facts(model)})


def plain(value: Any) -> Any:
    """A fact as values of JSON; types become their texts."""
    if isinstance(value, DType):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        raise AttributeError(f"ladder.ir.facts.{name} is now {RENAMED[name]}")
    raise AttributeError(f"module 'ladder.ir.facts' has no attribute '{name}'")
