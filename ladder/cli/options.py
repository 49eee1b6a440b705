"""Parameters that several commands share and that are not options of the schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ladder.options.requests import DEFAULT_TYPES, CompileOptions, PlanOptions
from ladder.options.schema import described
from ladder.support.threads import check_threads

_COMPILE, _PLAN = described(CompileOptions), described(PlanOptions)

# The model, and where results are written.
Model = Annotated[Path, typer.Argument(help="ONNX or GGUF file, or a Hugging Face folder.")]
Artifact = Annotated[Path, typer.Argument(help="Artifact folder of 'ladder compile'.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Also print the reason of each kernel, and all names.")
]
Threads = Annotated[int, typer.Option(help="Threads (0: all cores that this process may use).")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help=_COMPILE["trust_remote_code"].option.help)
]
VerifyKey = Annotated[
    Path | None,
    typer.Option(help="Public key (PEM): refuse an artifact that was not signed with its key."),
]
SavePlan = Annotated[
    Path | None, typer.Option(help="With a budget, also write the plan (TOML) to this file.")
]

# Options of the schema for commands that have no options class.
Type = Annotated[str, typer.Option("--type", help=_COMPILE["type"].option.help)]
Types = Annotated[str, typer.Option(help=_PLAN["types"].option.help)]
Target = Annotated[str, typer.Option(help=_COMPILE["target"].option.help)]
Activation = Annotated[
    str, typer.Option(*_COMPILE["activation"].flags, help=_COMPILE["activation"].option.help)
]
Chunk = Annotated[int, typer.Option(help=_COMPILE["chunk"].option.help)]
TYPES = ",".join(DEFAULT_TYPES)


def set_threads(threads: int) -> None:
    """Set the number of threads for TVM, which reads it when it is first loaded."""
    check_threads("--threads", threads)
    if threads:
        os.environ["TVM_NUM_THREADS"] = str(threads)
