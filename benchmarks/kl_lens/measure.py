"""Perplexity, size and speed of a plan; every number is saved as soon as it is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kl_lens.plans import mark_of
from ladder.demo import bench, float_bytes, float_speed
from ladder.evaluation.scoring import score_file
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model
from ladder.support.files import file_aside

FLOAT = "float32, ONNX Runtime"
CONTEXT, FILLED = 512, 256
WINDOW, SCORED = 256, 32768
THREADS = (1, 2)
Row = dict[str, Any]


class Saved:
    """Values in a file by name, each measured once; kinds in ``again`` are measured again."""

    def __init__(self, path: Path, again: str = "") -> None:
        self.path, self.again = path, again
        self.values: Row = json.loads(path.read_text()) if path.exists() else {}

    def get(self, kind: str, mark: str, make: Callable[[], Row]) -> Row:
        """The value of a kind for a plan with this mark; ``make`` measures it."""
        key = f"{kind} {hashlib.sha256(mark.encode()).hexdigest()[:16]}"
        if key not in self.values or kind == self.again:
            self.values[key] = make()
            with file_aside(self.path) as aside:
                aside.write_text(json.dumps(self.values, indent=1))
        row: Row = self.values[key]
        return row


@dataclass(frozen=True)
class Meter:
    """Measures the plans of a model on the text file ``text``."""

    source: Source
    model: Path
    text: Path
    folder: Path
    saved: Saved

    def original(self) -> Row:
        """The float model in ONNX Runtime."""
        mark = self.source.digest
        score = self.saved.get("quality", mark, lambda: self._score(self.model))
        times = self.saved.get("speed", mark, self._float_speeds)
        return {"plan": FLOAT, "bytes": float_bytes(self.source), "bpw": 32.0, **score, **times}

    def row(self, name: str, plan: Path) -> Row:
        """A plan, compiled."""
        mark = self.source.digest + mark_of(plan)
        artifact = self.folder / plan.stem
        options = CompileOptions(plan=plan, context=CONTEXT)
        report = compile_model(self.source, artifact, options).report
        score = self.saved.get("quality", mark, lambda: self._score(artifact))
        times = self.saved.get("speed", mark, lambda: self._speeds(artifact))
        size = {"bytes": report.size_bytes, "bpw": report.bits_per_weight}
        return {"plan": name, **size, **score, **times}

    def _score(self, model: Path) -> Row:
        score = score_file(model, self.text, SCORED, WINDOW, compare=True)
        return {"perplexity": score.perplexity, "kl": score.kl_mean, "tokens": score.tokens}

    def _speeds(self, artifact: Path) -> Row:
        return {str(n): bench(artifact, n)["decode_tokens_per_s"] for n in THREADS}

    def _float_speeds(self) -> Row:
        return {str(n): float_speed(self.source, FILLED, n)["decode_tokens_per_s"] for n in THREADS}
