"""The Python API: thin, typed, over the driver."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.frontend.types import Source


def load(model: str | Path | Any, args: tuple[Any, ...] | None = None, **options: Any) -> Source:
    """Load an ONNX or GGUF file, a Hugging Face folder, or a torch module with example inputs."""
    if isinstance(model, (str, Path)):
        from ladder.pipeline.sources import load_source

        return load_source(model)
    if args is None:
        raise LadderError("a torch module needs example inputs: ladder.load(module, (x,))")
    from ladder.frontend.torch_module import load_module

    return load_module(model, args, **options)


def compile(
    model: str | Path | Source,
    output: str | Path,
    save_plan: str | Path | None = None,
    **wishes: Any,
) -> dict[str, Any]:
    """Compile into the artifact folder ``output``; returns the report.

    Wishes are the options of ``ladder compile`` by name: ``type``, ``target``, ``rounding``, ...;
    with a budget (``bpw``, ``size``, ``latency``, ``max_kl``, ``prefer``) those of ``plan`` too.
    """
    from ladder.planning.one_step import compile_wished

    return compile_wished(model, output, wishes, save_plan).report


def plan(
    model: str | Path | Source, output: str | Path | None = None, **wishes: Any
) -> dict[str, Any]:
    """Which site gets which type within a budget; writes the plan file ``output``.

    Wishes are those of ``ladder plan``: ``types``, ``bpw``, ``size``, ``latency``, ``max_kl``, ...
    """
    from ladder.options.requests import PlanWish, wish_of
    from ladder.planning.make import plan_model

    planned = plan_model(model, wish_of(wishes, PlanWish))
    if output is not None:
        planned.save(Path(output))
    return planned.report


def register_type(name: str, codebook: Iterable[float]) -> str:
    """Make a code book of 2 to 256 values a type: ``name:g64`` works everywhere from here on."""
    from ladder.ir.element import code_book, register

    return register(code_book(name, codebook)).name


def export_onnx(
    source: str | Path,
    target: str | Path,
    type: str = "",
    save_plan: str | Path | None = None,
    **wishes: Any,
) -> dict[str, Any]:
    """ONNX in, ONNX out; wishes are the options of ``ladder quantize`` by name."""
    from ladder.planning.one_step import quantize_wished

    return quantize_wished(source, target, {"type": type, **wishes}, save_plan)
