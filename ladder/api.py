"""The Python API. Its keywords and their help come from the schema of options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ladder.errors import LadderError, refusals
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.signature import takes_options

if TYPE_CHECKING:
    from ladder.frontend.types import Source
    from ladder.ir.dtype import DType
    from ladder.options.keywords import CompileKeywords, ExportKeywords, PlanKeywords
    from ladder.pipeline.quantize import QuantizeReport
    from ladder.pipeline.report import CompileReport
    from ladder.planning.make import PlanReport


@refusals()
def load(
    model: str | Path | Any,
    args: tuple[Any, ...] | None = None,
    *,
    dynamic_shapes: Any = None,
    input_names: list[str] | None = None,
    output_names: list[str] | None = None,
    trust_remote_code: bool = False,
) -> Source:
    """Load an ONNX or GGUF file, a Hugging Face folder, or a torch module with example inputs.

    ``dynamic_shapes``, ``input_names`` and ``output_names`` are for modules, as in
    ``torch.onnx.export``. Python code in a Hugging Face folder is run only with
    ``trust_remote_code``. Raises ``LadderError`` where the model cannot be read.
    """
    named = {"dynamic_shapes": dynamic_shapes, "input_names": input_names}
    options = {k: v for k, v in {**named, "output_names": output_names}.items() if v is not None}
    if isinstance(model, (str, Path)):
        if args is not None or options:
            raise LadderError("args and names are for torch modules: leave them out for a file")
        from ladder.pipeline.sources import load_source

        return load_source(model, trust_remote_code)
    if args is None:
        raise LadderError("a torch module needs example inputs: ladder.load(module, (x,))")
    from ladder.frontend.torch_module import load_module

    return load_module(model, args, **options)


@takes_options(CompileOptions, PlanOptions, leave_out=("pareto",))
@refusals()
def compile(
    model: str | Path | Source,
    output: str | Path,
    save_plan: str | Path | None = None,
    **options: Unpack[CompileKeywords],
) -> CompileReport:
    """Compile a model into the artifact folder ``output``; returns the report.

    With a budget (``bpw``, ``size``, ``latency``, ``max_kl``, ``prefer``) a plan is made first, and
    written to ``save_plan`` if that is given. Raises ``LadderError`` for bad input, and
    ``NothingToQuantize`` where no weight may change.
    """
    from ladder.planning.one_step import compile_in_one_step

    return compile_in_one_step(model, output, options, save_plan).report


@takes_options(PlanOptions)
@refusals()
def plan(
    model: str | Path | Source,
    output: str | Path | None = None,
    **options: Unpack[PlanKeywords],
) -> PlanReport:
    """Choose a type for each site within a budget, and write the plan file ``output``.

    Raises ``LadderError`` for bad input and for a budget that no plan meets.
    """
    from ladder.options.split import plan_options
    from ladder.planning.make import plan_model

    planned = plan_model(model, plan_options(options))
    if output is not None:
        planned.save(Path(output))
    return planned.report


def register_type(name: str, codebook: Iterable[float]) -> str:
    """Register a code book of 2 to 256 values as a type; then ``name:g64`` works everywhere.

    Raises ``LadderError`` if the name is taken or the values are not a valid code book.
    """
    from ladder.ir.element import code_book, register

    return register(code_book(name, codebook)).name


@takes_options(QuantizeOptions, PlanOptions, leave_out=NOT_FOR_FILES)
@refusals()
def export_onnx(
    source: str | Path,
    target: str | Path,
    type: str | DType = "",
    save_plan: str | Path | None = None,
    **options: Unpack[ExportKeywords],
) -> QuantizeReport:
    """Quantize the ONNX file ``source`` into the ONNX file ``target``; returns the report.

    With a budget (``bpw``, ``size``, ``max_kl``, ``prefer``) a plan is made first. Raises
    ``NothingToQuantize`` where no weight may change; then nothing is written.
    """
    from ladder.planning.one_step import quantize_in_one_step

    return quantize_in_one_step(source, target, {"type": type, **options}, save_plan)
