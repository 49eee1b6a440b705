"""How well a sensitivity ranks sites: Kendall's tau against each site's own perplexity change.

    python benchmarks/rank_sites.py MODEL --type int2:g64 --sites 48 --state rank.jsonl

Each site is rounded alone. Its scores on a few calibration windows are compared with the change of
perplexity on another text. Such a change is itself noisy, so the text is scored in parts: the
tables show how the agreement grows with the text, and how well two halves of the text agree with
each other, which is the best that a score can be expected to reach.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

import ladder
from ladder.blockwise.weights import Task, rounder
from ladder.calibration.data import language_model_feeds
from ladder.calibration.text_windows import calibration
from ladder.calibration.texts import WIKIPEDIA, encode, wiki_text
from ladder.frontend.types import Source
from ladder.sensitivity.engine import Engine
from ladder.support.packages import package_file
from ladder.support.threads import own_threads

SIGNS = {"kl": 1, "reverse_kl": 1, "mse": 1, "sqnr": -1, "cosine": -1}
CHANGE = "loss_change"
PART_WINDOWS, PART_TOKENS = 8, 512
CALIBRATION = "calibration"
Scores = dict[str, float]


@dataclass
class Table:
    """Scores by (part of the text, site), saved line by line so that a killed run can resume."""

    path: Path
    rows: dict[tuple[str, str], Scores]

    @staticmethod
    def read(path: Path) -> Table:
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return Table(path, {(row["part"], row["site"]): row["scores"] for row in found})

    def add(self, part: str, site: str, scores: Scores) -> None:
        self.rows[part, site] = scores
        with self.path.open("a") as file:
            file.write(json.dumps({"part": part, "site": site, "scores": scores}) + "\n")


def main() -> None:
    options = _options()
    source = ladder.load(options.model)
    table = Table.read(options.state)
    windows = calibration(source, None, options.windows, options.tokens).tokens
    names = _measure(source, table, CALIBRATION, windows, options)
    parts = []
    for number, part in enumerate(_parts(source, options.parts)):
        parts.append(f"part {number}")
        _measure(source, table, parts[-1], part, options)
        _print(table, names, parts, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--type", default="int2:g64")
    parser.add_argument("--sites", type=int, default=48, help="number of sites, drawn at random")
    parser.add_argument("--windows", type=int, default=8, help="windows of calibration text")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per calibration window")
    parser.add_argument("--rounding", default="mse")
    parser.add_argument("--parts", type=int, default=8, help="parts of 8 x 512 evaluation tokens")
    parser.add_argument("--state", type=Path, required=True, help="file where scores are saved")
    return parser.parse_args()


def _parts(source: Source, count: int) -> Iterator[np.ndarray]:
    """Parts [windows, tokens] of the first half of the articles; calibration uses the second."""
    text = wiki_text(package_file(*WIKIPEDIA))
    ids = np.array(encode(source, text[: len(text) // 2]))
    size = PART_WINDOWS * PART_TOKENS
    for i in range(min(count, len(ids) // size)):
        yield ids[i * size : (i + 1) * size].reshape(PART_WINDOWS, PART_TOKENS)


def _measure(
    source: Source, table: Table, part: str, windows: np.ndarray, options: argparse.Namespace
) -> list[str]:
    """Score the drawn sites on one part of the text; returns their names."""
    feeds = [language_model_feeds(source.states, ids) for ids in windows]
    labels = [ids[1:] for ids in windows]
    by = rounder(options.rounding)
    engine = Engine(source.model, feeds, by, True, labels, threads=own_threads())
    names = sorted(engine.groups)
    random.Random(0).shuffle(names)
    names = sorted(names[: options.sites], key=lambda name: engine.groups[name].blocks[0])
    for name in names:
        if (part, name) not in table.rows:
            table.add(part, name, engine.score([Task(name, options.type)])[0])
    return names


def _print(
    table: Table, names: Sequence[str], parts: Sequence[str], options: argparse.Namespace
) -> None:
    """Print tau of every measure with the text so far, and of the text's halves."""

    def mean(measure: str, some: Sequence[str]) -> list[float]:
        return [float(np.mean([table.rows[p, n][measure] for p in some])) for n in names]

    change = mean(CHANGE, parts)
    tokens = len(parts) * PART_WINDOWS * PART_TOKENS
    print(f"\n{options.type}, {len(names)} sites, perplexity change on {tokens} tokens")
    print(f"  loss change, nats: median {np.median(change):.4f}, largest {max(change):.4f}")
    if len(parts) > 1:
        halves = [mean(CHANGE, parts[i::2]) for i in (0, 1)]
        errors = [np.std([table.rows[p, n][CHANGE] for p in parts], ddof=1) for n in names]
        error = np.median(errors) / np.sqrt(len(parts))
        print(f"  its standard error, median {error:.4f}; tau of halves {_tau(*halves):.3f}")
    for measure, sign in SIGNS.items():
        cells = [_tau([sign * x for x in mean(measure, some)], change)
                 for some in ([CALIBRATION], parts)]  # fmt: skip
        print(f"  {measure:10s} tau {cells[0]:.3f} calibrated, {cells[1]:.3f} on the same text")


def _tau(a: Sequence[float], b: Sequence[float]) -> float:
    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
