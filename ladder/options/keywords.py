"""The keywords of the Python API with their types, for editors and type checkers.

Made from the schema of options: ``pytest tests/options/test_keywords.py --update-golden`` writes
this file. ``help`` has their meaning and their defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from ladder.ir.dtype import DType
    from ladder.passes.infra.patterns import Rule


class CompileKeywords(TypedDict, total=False):
    """Keywords of ``ladder.compile``."""

    keep: Iterable[str] | str
    rules: Mapping[str, DType | str] | Iterable[Rule | str] | str
    rounding: str
    effort: str
    outliers: str
    calib: Path | str | None
    windows: int
    tokens: int
    target: str
    activation: str
    chunk: int
    trust_remote_code: bool
    type: DType | str
    plan: Path | str | None
    scheme: str
    context: int
    kv_type: str
    dims: Mapping[str, int] | Iterable[str] | str
    checked: bool
    bpw: float | str
    size: float | str
    latency: float | str
    max_kl: float | str
    prefer: Mapping[str, float] | str
    minimise: str
    types: Iterable[DType | str] | str
    workers: int | str
    state: Path | str | None
    costs: Path | str | None
    overhead: float | str
    retime: bool
    verify: bool
    refine: int
    long_tokens: int


class PlanKeywords(TypedDict, total=False):
    """Keywords of ``ladder.plan``."""

    keep: Iterable[str] | str
    rules: Mapping[str, DType | str] | Iterable[Rule | str] | str
    rounding: str
    effort: str
    outliers: str
    calib: Path | str | None
    windows: int
    tokens: int
    target: str
    activation: str
    chunk: int
    trust_remote_code: bool
    bpw: float | str
    size: float | str
    latency: float | str
    max_kl: float | str
    prefer: Mapping[str, float] | str
    minimise: str
    types: Iterable[DType | str] | str
    workers: int | str
    state: Path | str | None
    costs: Path | str | None
    overhead: float | str
    retime: bool
    pareto: bool
    verify: bool
    refine: int
    long_tokens: int


class ExportKeywords(TypedDict, total=False):
    """Keywords of ``ladder.export_onnx``."""

    keep: Iterable[str] | str
    rules: Mapping[str, DType | str] | Iterable[Rule | str] | str
    rounding: str
    effort: str
    outliers: str
    calib: Path | str | None
    windows: int
    tokens: int
    only: Iterable[str] | str
    least_weights: int
    plan: Path | str | None
    format: str
    purpose: str
    accuracy_level: int
    activation: str
    checked: bool
    bench: bool
    threads: int
    bpw: float | str
    size: float | str
    max_kl: float | str
    prefer: Mapping[str, float] | str
    minimise: str
    types: Iterable[DType | str] | str
    workers: int | str
    state: Path | str | None
    verify: bool
    refine: int
    long_tokens: int
