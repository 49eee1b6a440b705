"""Outlier channels, as in MUXQ's table 1: perplexity by method, width and granularity.

    python benchmarks/outlier_table.py MODEL -o table.jsonl

MODEL is evaluated both with added outlier channels (``tests/outliers.py``) and as it is. naive,
muxq, digits and auto run the dialect's operators: the pass, rounded weights, lowered products.
smooth is the pass, then naive. LLM.int8() is the test oracle: its outliers (over 6.0) are
multiplied in float. Rows are saved to the file one by one, and a second run resumes there.
``--only digits auto`` measures only those methods, ``--print`` prints the table of a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from exact_floats import with_float_products
from llm_int8 import Oracle, llm_int8, with_rounded_weights
from outliers import prepare

import ladder
from ladder.calibration.activations import collect_activations
from ladder.calibration.data import text_data
from ladder.calibration.texts import WIKIPEDIA, encode, wiki_text
from ladder.evaluation.evaluate import evaluate
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.outliers import Activations
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_types import LowerTypes
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.round_weights import RoundWeights
from ladder.reference import ReferenceLanguageModel
from ladder.support.packages import package_file
from ladder.support.processor import cpu_name

WINDOW = 512
ROUNDING = "rtn"  # of the weights in all rows
TYPES = {"W8": "int8:row", "W4": "int4:g32"}
WIDTHS = [("W8", 8), ("W8", 7), ("W8", 6), ("W8", 5), ("W4", 8)]
COLUMNS = ("none", "muxq", "digits", "llm.int8", "smooth", "auto")
GRANULARITIES = ("tensor", "token")
Row = dict[str, Any]


class Table:
    """The rows of a file, each measured once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def has(self, **key: Any) -> bool:
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, score: Callable[[], float], **key: Any) -> None:
        if self.has(**key):
            return
        start = time.perf_counter()
        row = {**key, "perplexity": score(), "seconds": round(time.perf_counter() - start, 1)}
        row |= {"date": f"{datetime.now():%d %B %Y}", "machine": cpu_name()}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(str(value) for value in row.values()), flush=True)


def main() -> None:
    options = _options()
    table = Table(options.output)
    if not options.print:
        _measure(options, table)
    print(shown(table.rows))


def _measure(options: argparse.Namespace, table: Table) -> None:
    source = ladder.load(options.model)
    text = wiki_text(package_file(*WIKIPEDIA))
    tokens = encode(source, text[: len(text) // 2])[: options.limit]
    known = _seen(source)
    hard = prepare(source, known).source
    models = {"prepared": (hard, _seen(hard)), "as it is": (source, known)}
    for name, (model, seen) in models.items():
        runner = Runner(model, seen, tokens, options)
        whole = partial(runner.score, model.model, WINDOW)
        table.add(whole, model=name, method="float")
        hard_case = name == "prepared"
        methods = COLUMNS if hard_case else ("none", "digits", "auto")
        for granularity in GRANULARITIES:
            for weights, bits in WIDTHS if hard_case else WIDTHS[:3]:
                key = {"model": name, "granularity": granularity, "weights": weights, "bits": bits}
                for method in [m for m in methods if m in options.only]:
                    table.add(partial(runner.row, method, key), **key, method=method)


def _seen(source: Source) -> Activations:
    """Activations on the project's own calibration text, which evaluation does not read."""
    return collect_activations(source, text_data(source, None, 16, 128))


class Runner:
    """Scores one model; the oracle's rounded weights are kept."""

    def __init__(
        self, source: Source, seen: Activations, tokens: list[int], options: argparse.Namespace
    ) -> None:
        self.source, self._seen, self._tokens, self._options = source, seen, tokens, options
        self._rounded: dict[str, ir.Model] = {}

    def score(self, model: ir.Model, chunk: int) -> float:
        lowered, threads = with_float_products(model), self._options.threads
        runner = ReferenceLanguageModel(lowered, self.source.states, WINDOW, threads, chunk=chunk)
        return evaluate(runner, self._tokens, WINDOW).perplexity

    def row(self, method: str, key: Row) -> float:
        """Measure a row; if tokens do not share a scale, faster, a whole window at a time."""
        chunk = self._options.chunk if key["granularity"] == "tensor" else WINDOW
        if method == "llm.int8":
            return self.score(self._oracle(key), chunk)
        mode = f"int{key['bits']}:{key['granularity']}"
        model = facts.clone(self.source.model)
        facts.put(model, self._seen)
        dtype = DType.parse(TYPES[key["weights"]])
        run_passes(model, [AllocateUniform(dtype), MuxOutliers(method, mode)])
        return self.score(run_passes(model, [RoundWeights(ROUNDING), LowerTypes(mode)]), chunk)

    def _oracle(self, key: Row) -> ir.Model:
        weights = TYPES[key["weights"]]
        if weights not in self._rounded:
            self._rounded[weights] = with_rounded_weights(self.source.model, weights, ROUNDING)
        return llm_int8(self._rounded[weights], Oracle(key["bits"], key["granularity"] == "token"))


def shown(rows: list[Row]) -> str:
    """The table as Markdown."""
    places = dict.fromkeys(f"{row['date']}, {row['machine']}" for row in rows)
    lines = [f"Measured {'; '.join(places)}.", ""]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        exact = next(row["perplexity"] for row in own if row["method"] == "float")
        methods = [m for m in COLUMNS if any(row["method"] == m for row in own)]
        if not methods:
            continue
        lines += [f"**{model}** (float {exact:.2f})", ""]
        lines.append("| scale per | weights | A | " + " | ".join(methods) + " |")
        lines.append("|---|---|---|" + "---|" * len(methods))
        found = {_key(row): row["perplexity"] for row in own if "bits" in row}
        for granularity in GRANULARITIES:
            for weights, bits in WIDTHS:
                cells = [found.get((granularity, weights, bits, m)) for m in methods]
                if any(cell is not None for cell in cells):
                    texts = [f"{cell:.2f}" if cell is not None else "" for cell in cells]
                    lines.append(f"| {granularity} | {weights} | {bits} | {' | '.join(texts)} |")
        lines.append("")
    return "\n".join(lines)


def _key(row: Row) -> tuple[str, str, int, str]:
    return row["granularity"], row["weights"], row["bits"], row["method"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=2048, help="evaluation tokens")
    parser.add_argument("--chunk", type=int, default=64, help="tokens per call, as compiled")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--only", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="METHOD")
    parser.add_argument("--print", action="store_true", help="only print the table of the file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
