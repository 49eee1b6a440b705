"""Times an artifact: decode and prefill tokens per second, and the time of each kernel."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.runtime.artifact import Artifact
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.manifest import DECODE, LAST
from ladder.runtime.session import Session, threads
from ladder.runtime.states import Snapshot

LOW_BIT_KERNELS = ("lut_gemm", "dot_gemm", "tile_gemm", "float_gemm")
DECODED, ROUNDS, PROFILED = 32, 5, 10


def bench_artifact(folder: Path, context: int, verify_key: Path | None = None) -> dict[str, Any]:
    """Feed ``context`` tokens, then time decoding; medians of several rounds."""
    artifact = Artifact.load(folder, verify_key)
    if artifact.language_model is None:
        raise LadderError(f"{folder}: not a language model; time its kernels with 'bench kernel'")
    model = LanguageModel(Session(artifact))
    if context < 1:
        raise LadderError(f"--tokens {context}: give at least one token of context")
    if context + DECODED > model.context:
        raise LadderError(
            f"--tokens {context}: the artifact's context is {model.context}, and "
            f"{DECODED} more tokens are decoded; give fewer"
        )
    tokens = [i % min(1000, model.vocabulary) for i in range(context)]
    model.feed(tokens)
    held = model.snapshot()
    prefill = statistics.median(_prefill_seconds(model, tokens) for _ in range(3))
    decode = statistics.median(_decode_seconds(model, held) for _ in range(ROUNDS))
    breakdown = _breakdown(model, held, decode)
    low_bit = sum(s for name, s in breakdown.items() if name.startswith(LOW_BIT_KERNELS))
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "level": artifact.level.name,
        "threads": threads(),
        "context": context,
        "decode_tokens_per_s": 1 / decode,
        "prefill_tokens_per_s": context / prefill,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
        "low_bit_share": low_bit / sum(breakdown.values()),
        "breakdown": breakdown,
    }


def _prefill_seconds(model: LanguageModel, tokens: list[int]) -> float:
    model.reset()
    start = time.perf_counter()
    model.feed(tokens, LAST)
    return time.perf_counter() - start


def _hold(model: LanguageModel, held: Snapshot) -> None:
    """Forget the tokens that were decoded after ``held``."""
    if model.states.rewindable:
        model.rewind(held.position)
    else:
        model.restore(held)


def _decode_seconds(model: LanguageModel, held: Snapshot) -> float:
    _hold(model, held)
    start = time.perf_counter()
    for i in range(DECODED):
        model.step(i + 5)
    return (time.perf_counter() - start) / DECODED


def _breakdown(model: LanguageModel, held: Snapshot, decode: float) -> dict[str, float]:
    """Seconds per token of each kernel, after ``held``, largest first.

    Timing each instruction of the virtual machine would cost more than the instruction itself. The
    rest of a token's time is theirs, reported as ``between kernels``.
    """
    _hold(model, held)
    model.step(5)
    spent = model.session.profile(DECODE, PROFILED)
    kernels = {name: s for name, s in spent.items() if not name.startswith("vm.builtin.")}
    kernels["between kernels"] = max(0.0, decode - sum(kernels.values()))
    return dict(sorted(kernels.items(), key=lambda item: -item[1]))
