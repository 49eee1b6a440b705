"""Perplexity, size and speed of a plan; every number is saved as soon as it is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kl_lens.plans import ROUNDING, mark_of
from ladder.calibration.texts import encode
from ladder.demo import bench, float_bytes, float_speed
from ladder.evaluation.evaluate import Predictor, evaluate
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model
from ladder.reference import ReferenceLanguageModel
from ladder.runtime import load
from ladder.support.files import file_aside

FLOAT = "float32, ONNX Runtime"
CONTEXT, FILLED = 512, 256
WINDOW, SCORED = 256, 16384
THREADS = (1, 2)
Row = dict[str, Any]


class Saved:
    """Values in a file by name, each measured once; kinds in ``again`` are measured again."""

    def __init__(self, path: Path, again: str = "") -> None:
        self.path, self.again = path, again
        self.values: Row = json.loads(path.read_text()) if path.exists() else {}

    def get(self, kind: str, mark: str, make: Callable[[], Row] | None) -> Row:
        """The value of a kind for a plan with this mark; ``make`` measures it.

        Without ``make`` a value that is not known is empty.
        """
        key = f"{kind} {hashlib.sha256(mark.encode()).hexdigest()[:16]}"
        if make and (key not in self.values or kind == self.again):
            self.values[key] = make()
            with file_aside(self.path) as aside:
                aside.write_text(json.dumps(self.values, indent=1))
        row: Row = self.values.get(key, {})
        return row


class Remembered:
    """A model that computes a text once, and then remembers its logits."""

    def __init__(self, model: Predictor) -> None:
        self.model, self.context = model, model.context
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def reset(self) -> None:
        """Each text is fed whole, from the start."""

    def feed(self, tokens: list[int]) -> np.ndarray:
        """The logits of a whole text."""
        key = tuple(tokens)
        if key not in self.known:
            self.model.reset()
            self.known[key] = self.model.feed(tokens)
        return self.known[key]


class Meter:
    """Measures the plans of a model on ``text``; artifacts are compiled into ``folder``.

    Speeds that are not known yet are measured if it is ``timed``, and are left out otherwise.
    """

    def __init__(self, source: Source, text: str, folder: Path, saved: Saved, timed: bool) -> None:
        self.source, self.folder, self.saved, self.timed = source, folder, saved, timed
        self.tokens = encode(source, text)[:SCORED]
        self.reference = Remembered(ReferenceLanguageModel(source.model, source.states, WINDOW))

    def original(self) -> Row:
        """The float model in ONNX Runtime."""
        size = {"bytes": float_bytes(self.source), "bpw": 32.0}
        score = self.saved.get("quality", self.source.digest, lambda: self._score(self.reference))
        return {
            "plan": FLOAT,
            **size,
            **score,
            **self._times(self.source.digest, self._float_speed),
        }

    def row(self, name: str, plan: Path) -> Row:
        """A plan, compiled."""
        mark = self.source.digest + mark_of(plan)
        artifact = self.folder / plan.stem
        options = CompileOptions(plan=plan, context=CONTEXT, rounding=ROUNDING)
        report = compile_model(self.source, artifact, options).report
        size = {"bytes": report.weights_bytes, "bpw": report.bits_per_weight}
        score = self.saved.get("quality", mark, lambda: self._score(load(artifact)))
        times = self._times(mark, lambda threads: bench(artifact, threads))
        return {"plan": name, **size, **score, **times}

    def _score(self, model: Any) -> Row:
        reference = None if model is self.reference else self.reference
        score = evaluate(model, self.tokens, WINDOW, reference)
        return {"perplexity": score.perplexity, "kl": score.kl_mean, "tokens": score.tokens}

    def _times(self, mark: str, measure: Callable[[int], Row]) -> Row:
        """Decoded tokens a second by number of threads."""

        def make() -> Row:
            return {str(n): measure(n)["decode_tokens_per_s"] for n in THREADS}

        return self.saved.get("speed", mark, make if self.timed else None)

    def _float_speed(self, threads: int) -> Row:
        return float_speed(self.source, FILLED, threads)
