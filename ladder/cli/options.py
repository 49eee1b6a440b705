"""The options that commands share, each spelled once, and which of them were given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.errors import LadderError
from ladder.passes.rounding.methods import methods_help

# What the model is, and where things go.
Model = Annotated[Path, typer.Argument(help="ONNX or GGUF file, or a Hugging Face folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Threads = Annotated[int, typer.Option(help="Threads; 0: all cores this process may use.")]
SavePlan = Annotated[
    Path | None, typer.Option(help="With a budget: write the plan (TOML) here, too.")
]

# The types.
Type = Annotated[
    str, typer.Option("--type", help="Weight type, e.g. int4:g128, int8:row, uint4:g32:zp.")
]
Types = Annotated[str, typer.Option(help="Types to choose among, with commas.")]
Keep = Annotated[
    list[str] | None, typer.Option(help="Site name pattern that stays float; repeatable.")
]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", help="PATTERN=TYPE for sites or roles, e.g. lm_head=int8:row; repeat."),
]
PlanFile = Annotated[Path | None, typer.Option(help="Plan file of 'ladder plan'.")]
Rounding = Annotated[
    str,
    typer.Option(help=methods_help()),
]

# How it is computed.
Target = Annotated[str, typer.Option(help="See 'ladder targets'. native: this CPU.")]
Activation = Annotated[
    str,
    typer.Option(
        "--activation",
        "--activations",
        help="int8 .. int2, each alone or with :block, :token, :tensor, :static; table8 (half the "
        "look-ups), fp32 (unrounded; compiled it is slow).",
    ),
]
Outliers = Annotated[
    str,
    typer.Option(
        help="Channels of activations far larger than the others: digits (in two integers), muxq, "
        "smooth (folded into weights), none; auto: of these, for each product, on --calib."
    ),
]
Context = Annotated[int, typer.Option(help="Tokens a language model's cache holds.")]
Chunk = Annotated[int, typer.Option(help="Tokens per prefill call.")]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", help="NAME=SIZE of an open input dimension; repeatable."),
]

# A budget, and the plan for it.
Bpw = Annotated[str, typer.Option(help="Bits per weight at most, scales counted.")]
Size = Annotated[str, typer.Option(help="Bytes of all weights at most: 180MB, 96MiB.")]
Latency = Annotated[str, typer.Option(help="Time of a decoded token at most: 20ms.")]
MaxKl = Annotated[
    str, typer.Option("--max-kl", help="Nats a token at most; the smallest such plan.")
]
Prefer = Annotated[str, typer.Option(help="memory=1,latency=1,accuracy=2.")]
Minimise = Annotated[str, typer.Option(help="loss, size or latency, where not implied.")]
Calib = Annotated[
    Path | None, typer.Option(help="Text (UTF-8 or JSONL); NPZ of inputs for other models.")
]
Windows = Annotated[int, typer.Option(help="Windows of calibration text.")]
Tokens = Annotated[int, typer.Option(help="Tokens of a window.")]
Workers = Annotated[str, typer.Option(help="Processes (0: this one), or dask://HOST:PORT.")]
State = Annotated[Path | None, typer.Option(help="File that scores are saved to as they come.")]
Costs = Annotated[Path | None, typer.Option(help="Times of products from 'ladder bench device'.")]
Rest = Annotated[str, typer.Option(help="What a token takes beside products: 3ms. Else measured.")]
Verify = Annotated[bool, typer.Option(help="Run the plan once and measure its loss.")]
Refine = Annotated[
    int,
    typer.Option(help="Rounds of measuring the sites again in the plan's company (minutes each)."),
]
LongTokens = Annotated[
    int,
    typer.Option(
        help="Measure each site once more, and whole plans, on windows of so many tokens; 0: not."
    ),
]

# Options that are no wish: what a command reads, writes and prints.
COMMAND = frozenset({"model", "source", "output", "save_plan", "picture", "threads", "json"})
TYPES = "int2:g64:fp16,int3:g64:fp16,int4:g64:fp16,int8:row"


def given(ctx: typer.Context) -> dict[str, Any]:
    """The wishes on the command line, by name: a default is not one, so it can be told as such."""
    wishes = {
        name: value
        for name, value in ctx.params.items()
        if name not in COMMAND and _is_given(ctx, name)
    }
    if "dims" in wishes:
        wishes["dims"] = "/".join(d.replace("=", ":") for d in wishes["dims"])
    return wishes


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def set_threads(threads: int) -> None:
    """TVM reads it when it is first loaded."""
    if threads < 0:
        raise LadderError(f"--threads {threads}: give a positive number, or 0 for all cores")
    if threads:
        os.environ["TVM_NUM_THREADS"] = str(threads)
