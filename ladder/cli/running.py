"""``ladder run``: stream text, or read and write arrays."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from ladder.cli.show import err, print_json, print_table
from ladder.errors import LadderError
from ladder.options.running import RunOptions
from ladder.runtime.artifact import Artifact
from ladder.runtime.language_model import LanguageModel, Sampling
from ladder.runtime.session import Session
from ladder.support.arrays import read_npz
from ladder.support.files import file_aside


def run_prompt(artifact: Artifact, prompt: str, options: RunOptions, json: bool) -> None:
    """Stream the continuation of ``prompt`` to stdout."""
    if artifact.language_model is None:
        raise LadderError(
            f"{artifact.folder}: not a language model; feed arrays with --input FILE.npz"
        )
    model = LanguageModel(Session(artifact))
    sampling = Sampling(options.temperature, options.top_p, options.seed)
    start = time.perf_counter()
    pieces = []
    for piece in model.stream_text(prompt, options.tokens, sampling):
        pieces.append(piece)
        if not json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    seconds = time.perf_counter() - start
    if json:
        print_json(
            {
                "prompt": prompt,
                "text": "".join(pieces),
                "seconds": seconds,
                "level": artifact.level.name,
            }
        )
        return
    sys.stdout.write("\n")
    err.print(f"{seconds:.2f} s, kernels for {artifact.level.name}")


def run_arrays(artifact: Artifact, source: Path, target: Path | None, json: bool) -> None:
    """Feed the arrays of an NPZ file; write the outputs to another file, or describe them."""
    feeds = read_npz(source, "save the inputs by name with numpy.savez")
    outputs = Session(artifact).run(feeds)
    if target is not None:
        with file_aside(target) as aside, aside.open("wb") as file:
            np.savez(file, **outputs)  # type: ignore[arg-type]
    rows = [{"name": n, "shape": list(a.shape), "dtype": str(a.dtype)} for n, a in outputs.items()]
    if json:
        print_json({"outputs": rows, "file": str(target) if target else None})
    else:
        print_table(
            "Outputs", ["name", "shape", "type"], [list(map(str, r.values())) for r in rows]
        )
