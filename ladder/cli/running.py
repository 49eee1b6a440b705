"""``ladder run``: stream text, or read and write arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladder.cli.show import err, print_json, print_table
from ladder.errors import LadderError
from ladder.options.running import SAMPLING, RunOptions
from ladder.runtime.artifact import Artifact
from ladder.runtime.generation import Generation
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.sampling import Sampling, sampling_from
from ladder.runtime.session import Session
from ladder.support.arrays import read_npz
from ladder.support.files import file_aside


def language_model(artifact: Artifact) -> LanguageModel:
    """The artifact's language model; other models are refused."""
    if artifact.language_model is None:
        raise LadderError(
            f"{artifact.folder}: not a language model; feed arrays with --input FILE.npz"
        )
    return LanguageModel(Session(artifact))


def sampling_of(options: RunOptions, advised: Mapping[str, float]) -> Sampling:
    """What was asked for; the rest as the model's authors advise, in ``advised``."""
    asked = {name: getattr(options, name) for name in (*SAMPLING, "seed")}
    try:
        return sampling_from(asked, advised)
    except LadderError as error:
        raise LadderError(f"--{str(error).replace('_', '-')}") from error


def run_prompt(
    artifact: Artifact, prompt: str, chat: bool, options: RunOptions, json: bool
) -> None:
    """Stream the continuation of ``prompt``, or the answer to it, to stdout."""
    model = language_model(artifact)
    messages = [{"role": "user", "content": prompt}]
    tokens = model.encode_chat(messages) if chat else model.encode(prompt)
    made = Generation(
        model,
        tokens,
        options.tokens,
        sampling_of(options, model.advised_sampling),
        options.stop,
    )
    for piece in made:
        if not json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if json:
        print_json({"prompt": prompt, **figures(made), "level": artifact.level.name})
        return
    sys.stdout.write("\n")
    err.print(f"{speeds(made)}; kernels for {artifact.level.name}")


def figures(made: Generation) -> dict[str, Any]:
    """A generated text and what it took, as JSON."""
    names = ("text", "finish", "prompt_tokens", "tokens", "first_seconds", "seconds")
    return {name: getattr(made, name) for name in names}


def speeds(made: Generation) -> str:
    """Tokens a second of prompt and text, and the time to the first token, in words."""
    return (
        f"prompt: {made.prompt_tokens} tokens, {made.prompt_rate:.0f} a second; "
        f"text: {made.tokens} tokens, {made.rate:.1f} a second; "
        f"first token after {made.first_seconds:.2f} s"
    )


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
