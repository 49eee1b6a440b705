"""The Python API: thin, typed, over the driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.frontend.source import Source


def load(model: str | Path | Any, args: tuple[Any, ...] | None = None, **options: Any) -> Source:
    """Load an ONNX or GGUF file, a Hugging Face folder, or a torch module with example inputs."""
    if isinstance(model, (str, Path)):
        from ladder.driver import load_source

        return load_source(model)
    if args is None:
        raise LadderError("a torch module needs example inputs: ladder.load(module, (x,))")
    from ladder.frontend.torch_module import load_module

    return load_module(model, args, **options)


def compile(model: str | Path | Source, output: str | Path, **wishes: Any) -> dict[str, Any]:
    """Compile into the artifact folder ``output``; returns the report.

    Wishes are those of ``ladder compile``: ``type``, ``target``, ``rounding``, ``activation``,
    ``context``, ``chunk``, ``dims``, ``keep``, ``rules``.
    """
    from ladder.driver import compile_model
    from ladder.wish import Wish

    wishes = _checked(wishes, Wish)
    return compile_model(model, output, Wish(**wishes)).report


def plan(
    model: str | Path | Source, output: str | Path | None = None, **wishes: Any
) -> dict[str, Any]:
    """Which site gets which type within a budget; writes the plan file ``output``.

    Wishes are those of ``ladder plan``: ``types``, ``bpw``, ``size``, ``latency``, ``max_kl``, ...
    """
    from ladder.planning import PlanWish, plan_model

    planned = plan_model(model, PlanWish(**_checked(wishes, PlanWish)))
    if output is not None:
        planned.save(Path(output))
    return planned.report


def _checked(wishes: dict[str, Any], kind: type) -> dict[str, Any]:
    """Only wishes there are; a single text where several may be given is one of them."""
    known = {f.name: str(f.type) for f in fields(kind)}
    unknown = sorted(set(wishes) - set(known))
    if unknown:
        raise LadderError(f"no wish '{unknown[0]}'; the wishes are: {', '.join(sorted(known))}")
    return {k: _texts(v) if known[k].startswith("tuple") else v for k, v in wishes.items()}


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    """One text, or several."""
    return (value,) if isinstance(value, str) else tuple(value)


def register_type(name: str, codebook: Iterable[float]) -> str:
    """Make a code book of 2 to 256 values a type: ``name:g64`` works everywhere from here on."""
    from ladder.ir.element import code_book, register

    return register(code_book(name, codebook)).name


def export_onnx(
    source: str | Path, target: str | Path, type: str = "int4:g32", **wishes: Any
) -> dict[str, Any]:
    """ONNX in, ONNX out; see ``ladder quantize``."""
    from ladder.export.quantize import quantize_onnx

    wishes = {k: _texts(v) if k in ("keep", "rules") else v for k, v in wishes.items()}
    return quantize_onnx(Path(source), Path(target), type, **wishes)
