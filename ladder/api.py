"""The Python API: thin, typed, over the driver."""

from __future__ import annotations

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
    ``context``, ``chunk``, ``dims``, ``keep``.
    """
    from ladder.driver import Wish, compile_model

    known = {f.name for f in fields(Wish)}
    unknown = sorted(set(wishes) - known)
    if unknown:
        raise LadderError(f"no wish '{unknown[0]}'; the wishes are: {', '.join(sorted(known))}")
    if isinstance(wishes.get("keep"), str):
        wishes["keep"] = (wishes["keep"],)
    return compile_model(model, output, Wish(**wishes)).report


def export_onnx(
    source: str | Path, target: str | Path, type: str = "int4:g32", **wishes: Any
) -> dict[str, Any]:
    """ONNX in, ONNX out; see ``ladder quantize``."""
    from ladder.export.quantize import quantize_onnx

    return quantize_onnx(Path(source), Path(target), type, **wishes)
