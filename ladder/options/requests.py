"""The options of ``ladder compile``, ``ladder quantize`` and ``ladder plan``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError
from ladder.hardware.targets import NATIVE, levels_of
from ladder.options.schema import LANGUAGE_MODELS, OTHER_MODELS, described, option, read
from ladder.options.sites import COMPUTE, FLOAT, TYPES, SiteOptions

if TYPE_CHECKING:
    from ladder.ir.dtype import DType
    from ladder.passes.allocation.budget import Budget

DEFAULT_TYPES = ("int2:g64:fp16", "int3:g64:fp16", "int4:g64:fp16", "int8:row")
# Options of a plan that have no meaning where ONNX Runtime runs the result.
NOT_FOR_FILES = (
    *("pareto", "target", "chunk", "latency", "costs", "overhead", "retime"),
    "trust_remote_code",
)
NUMBER = "float"  # what Python takes as well as a text
BUDGETS, PLANNING = "Budget (a plan is made first)", "How a plan is made"
BENCH = "What it is worth"


@dataclass(frozen=True)
class TargetOptions(SiteOptions):
    """Options about the sites of a model and about a target."""

    target: str = option(
        NATIVE, "Processor to compile for; see 'ladder targets'. native is this CPU.", panel=COMPUTE
    )
    activation: str = option(
        "int8",
        "How products round activations: int8 to int2, each alone or with :block, :token, "
        ":tensor or :static; table8 (half the look-ups); fp32 (unrounded; slow when compiled).",
        flags=("--activation", "--activations"),
        panel=COMPUTE,
        plugin=True,
    )
    chunk: int = option(
        64, "Tokens in one prefill call.", least=1, panel=COMPUTE, only=LANGUAGE_MODELS
    )
    trust_remote_code: bool = option(
        False,
        "Run Python code of the model's folder, with your rights. Read it first.",
        flags=("--trust-remote-code",),
        reported=False,
        changes_result=False,  # the code is in the model's digest
        panel=COMPUTE,
    )

    def check(self) -> None:
        from ladder.ir.activation import check

        super().check()
        check(self.activation)
        levels_of(self.target)


@dataclass(frozen=True)
class CompileOptions(TargetOptions):
    """Options of ``ladder compile``. Those at their default are reported as assumed."""

    type: DType = option(
        "int4:g128",
        "Type of all weights, e.g. int4:g64, int8:row, uint4:g32:zp; see 'ladder types'. source "
        "keeps the codes of a GGUF file or a packed checkpoint. By default these are kept, and "
        "other models get a plan (language models) or int8:row.",
        panel=TYPES,
        plugin=True,
        by="by the model",
    )
    plan: Path | None = option(
        None,
        "Plan file of 'ladder plan': it gives every site its type.",
        metavar="FILE",
        panel=TYPES,
        changes_result=False,  # its types count, not its name
        plugin=True,
    )
    scheme: str = option(
        "auto", "Kernels: auto, lut, dot or tile.", panel=COMPUTE, reported=False, plugin=True
    )
    context: int = option(
        2048,
        "Tokens that the cache of a language model holds.",
        least=1,
        panel=COMPUTE,
        only=LANGUAGE_MODELS,
    )
    kv_type: str = option(
        "fp16",
        "How attention's keys and values are stored: fp32, fp16, or int8 with a scale for each "
        "head and token.",
        panel=COMPUTE,
        only=LANGUAGE_MODELS,
    )
    dims: tuple[str, ...] = option(
        (),
        "NAME=SIZE of an open input dimension. Repeatable.",
        flags=("--dim",),
        metavar="NAME=SIZE",
        splits="/",
        panel=COMPUTE,
        accepts="Mapping[str, int]",
        only=OTHER_MODELS,
    )
    checked: bool = option(
        True,
        "Compare the float graph with ONNX Runtime on random inputs before rounding, and refuse a "
        "model that would be computed wrongly.",
        flags=("--check/--no-check",),
        reported=False,
        panel=COMPUTE,
    )

    def check(self) -> None:
        from ladder.passes.store_states import check

        super().check()
        check(self.kv_type)
        _check_type(self)

    @property
    def dims_text(self) -> str:
        """The dimensions as text for the pass bind-shapes."""
        return "/".join(dim.replace("=", ":") for dim in self.dims)

    @property
    def elements(self) -> list[str]:
        """The names of the element types that the options name."""
        return sorted({self.type.name, *(rule.type.name for rule in self.rules)})


@dataclass(frozen=True)
class QuantizeOptions(SiteOptions):
    """Options of ``ladder quantize``."""

    type: DType = option("int4:g32", "Type of all weights; see 'ladder types'.", panel=TYPES)
    only: tuple[str, ...] = option(
        (),
        "Quantize only these sites: a name, a role or an operator (MatMul, Gemm, Conv, Gather), or "
        "a pattern of one. Repeatable.",
        panel=TYPES,
    )
    least_weights: int = option(
        0,
        "Quantize only weights of at least N elements.",
        least=0,
        reported=False,
        panel=TYPES,
    )
    plan: Path | None = option(
        None,
        "Plan file of 'ladder plan': it gives every site its type.",
        metavar="FILE",
        panel=TYPES,
    )
    format: str = option(
        "auto",
        "How low-bit weights are written. auto: in the form that --for asks for, site by site. "
        "qdq: operators of the ONNX standard. "
        "nbits: MatMulNBits and GatherBlockQuantized of ONNX Runtime.",
        panel=COMPUTE,
        reported=False,
    )
    purpose: str = option(
        "speed",
        "What --format auto looks for. speed: the form that ONNX Runtime runs fastest with the "
        "same meaning. portability: operators of the ONNX standard only.",
        flags=("--for",),
        panel=COMPUTE,
        reported=False,
    )
    accuracy_level: int = option(
        0,
        "accuracy_level of MatMulNBits; 4 rounds activations to int8.",
        least=0,
        reported=False,
        panel=COMPUTE,
    )
    activation: str = option(
        FLOAT,
        "How products round activations. uint8: as ONNX Runtime's quantize_dynamic does. "
        "uint8:static, int8:static: by scales from --calib, as quantize_static does, convolutions "
        "too. int8 to int2, each alone or with :block, :token or :tensor: the integers of compiled "
        "kernels. fp32: not at all.",
        flags=("--activation", "--activations"),
        panel=COMPUTE,
    )
    checked: bool = option(
        True,
        "Compare the file in ONNX Runtime with the original model on random inputs before it gets "
        "its name.",
        flags=("--check/--no-check",),
        reported=False,
        panel=COMPUTE,
    )
    bench: bool = option(
        False,
        "Run the original and the result in ONNX Runtime, on --calib or random inputs, and print "
        "time, size and error.",
        flags=("--bench",),
        reported=False,
        panel=BENCH,
    )
    threads: int = option(
        1, "Threads of ONNX Runtime in --bench.", least=1, reported=False, panel=BENCH
    )

    @property
    def mode(self) -> str:
        """The mode by which outliers are found: that of kernels with the same granularity."""
        from ladder.ir.activation import WITH_ZERO_POINT, check_file_mode

        mode = check_file_mode(self.activation)
        return WITH_ZERO_POINT.get(mode, mode)

    def check(self) -> None:
        super().check()
        _check_type(self)


@dataclass(frozen=True)
class PlanOptions(TargetOptions):
    """Options of a plan. A budget is a text with a unit, as on the command line, or a number."""

    bpw: str = option(
        "", "Limit on bits per weight, scales included.", panel=BUDGETS, accepts=NUMBER
    )
    size: str = option(
        "", "Limit on the size of the result, e.g. 180MB or 96MiB.", panel=BUDGETS,
        unit="B", accepts=NUMBER,
    )  # fmt: skip
    latency: str = option(
        "", "Limit on the time of a decoded token, e.g. 20ms.", panel=BUDGETS,
        unit="s", accepts=NUMBER,
    )  # fmt: skip
    max_kl: str = option(
        "",
        "Limit on the KL divergence from the float model, in nats per token; the smallest plan "
        "is taken.",
        panel=BUDGETS,
        accepts=NUMBER,
    )
    prefer: str = option(
        "", "Relative importance of each axis, e.g. memory=1,latency=1,accuracy=2.", panel=BUDGETS,
        accepts="Mapping[str, float]",
    )  # fmt: skip
    minimise: str = option(
        "", "What to minimise within the limits: loss, size or latency.", panel=BUDGETS
    )
    types: tuple[DType, ...] = option(
        DEFAULT_TYPES, "Types to choose from, separated by commas.", splits=",", panel=PLANNING
    )
    workers: str = option(
        "0",
        "Processes that measure (0: this one), or dask://HOST:PORT.",
        accepts="int",
        reported=False,
        changes_result=False,
        panel=PLANNING,
    )
    state: Path | None = option(
        None,
        "File that scores are saved to as they are measured; a later run resumes from it.",
        metavar="FILE",
        reported=False,
        changes_result=False,
        panel=PLANNING,
    )
    costs: Path | None = option(
        None,
        "Times of products on a device, from 'ladder bench device'.",
        metavar="FILE",
        panel=PLANNING,
    )
    overhead: str = option(
        "",
        "Time per token outside the matrix products, e.g. 3ms (default: measured).",
        panel=PLANNING,
        flags=("--overhead", "--rest"),
        old_name="rest",
        unit="s",
        accepts=NUMBER,
    )
    retime: bool = option(
        False,
        "Time products again, also those whose times are in the cache.",
        flags=("--retime",),
        reported=False,
        changes_result=False,
        panel=PLANNING,
    )
    pareto: bool = option(
        False,
        "Compute the whole Pareto front.",
        flags=("--pareto",),
        reported=False,
        panel=PLANNING,
    )
    verify: bool = option(
        True, "Run the plan once and measure its loss.", reported=False, panel=PLANNING
    )
    refine: int = option(
        0,
        "Rounds of re-measuring each site with the rest of the plan applied (minutes each).",
        least=0,
        reported=False,
        panel=PLANNING,
    )
    long_tokens: int = option(
        0,
        "Also measure on windows of N tokens (0 disables).",
        least=0,
        reported=False,
        panel=PLANNING,
    )

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def budget(self) -> Budget | None:
        """The budget, or None where only the front is asked for."""
        from ladder.passes.allocation.budget import BUDGET, Budget

        texts = {name: getattr(self, name) for name in BUDGET}
        return None if self.pareto and not any(texts.values()) else Budget.of(texts)

    @property
    def timed(self) -> bool:
        """Whether times are measured: a limit or a picture needs them."""
        budget = self.budget
        return self.pareto or self.costs is not None or (budget is not None and budget.timed)

    def check(self) -> None:
        from ladder.passes.allocation.parts import candidates
        from ladder.support.units import parse_time

        _ = self.budget
        candidates(self.types)
        super().check()
        if self.overhead:
            parse_time("--overhead", self.overhead)
        if self.refine and not self.verify:
            raise LadderError("--refine runs plans and --no-verify forbids it: leave out one")
        if self.long_tokens and self.long_tokens <= self.tokens:
            raise LadderError(
                f"--long-tokens {self.long_tokens}: give more than --tokens {self.tokens}, or 0"
            )

    def assumed(self, language_model: bool) -> dict[str, Any]:
        found = super().assumed(language_model)
        timed = set() if self.timed else {"target", "activation", "chunk"}
        return {k: v for k, v in found.items() if k not in timed}


def _check_type(options: CompileOptions | QuantizeOptions) -> None:
    if options.type.is_float:
        raise LadderError(f"type '{options.type}' is a float: there is nothing to quantize to")
    default = read(described(type(options))["type"], described(type(options))["type"].default)
    only = getattr(options, "only", ()) or getattr(options, "least_weights", 0)
    if options.plan and (options.rules or options.keep or only or options.type != default):
        raise LadderError(
            "--plan says every site's type: leave out --type, --rule, --keep, --only and "
            "--least-weights"
        )
