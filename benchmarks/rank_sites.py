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


@dataclass(frozen=True)
class Asked:
    """What is ranked: ``sites`` of a model, drawn at random, each rounded to ``type``."""

    type: str = "int2:g64"
    sites: int = 48
    rounding: str = "mse"


def main() -> None:
    options = _options()
    source, table = ladder.load(options.model), Table.read(options.state)
    asked = Asked(options.type, options.sites, options.rounding)
    windows = calibration(source, None, options.windows, options.tokens).tokens
    names = measure(source, table, CALIBRATION, windows, asked)
    parts = []
    for number, part in enumerate(parts_of_text(source, options.parts)):
        parts.append(f"part {number}")
        measure(source, table, parts[-1], part, asked)
        _print(table, names, parts, asked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--type", default=Asked.type)
    parser.add_argument(
        "--sites", type=int, default=Asked.sites, help="number of sites, drawn at random"
    )
    parser.add_argument("--windows", type=int, default=8, help="windows of calibration text")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per calibration window")
    parser.add_argument("--rounding", default=Asked.rounding)
    parser.add_argument("--parts", type=int, default=8, help="parts of 8 x 512 evaluation tokens")
    parser.add_argument("--state", type=Path, required=True, help="file where scores are saved")
    return parser.parse_args()


def parts_of_text(source: Source, count: int) -> Iterator[np.ndarray]:
    """Parts [windows, tokens] of the first half of the articles; calibration uses the second."""
    text = wiki_text(package_file(*WIKIPEDIA))
    ids = np.array(encode(source, text[: len(text) // 2]))
    size = PART_WINDOWS * PART_TOKENS
    for i in range(min(count, len(ids) // size)):
        yield ids[i * size : (i + 1) * size].reshape(PART_WINDOWS, PART_TOKENS)


def measure(
    source: Source, table: Table, part: str, windows: np.ndarray, asked: Asked
) -> list[str]:
    """Score the drawn sites on one part of the text; returns their names."""
    feeds = [language_model_feeds(source.states, ids) for ids in windows]
    labels = [ids[1:] for ids in windows]
    by = rounder(asked.rounding)
    engine = Engine(source.model, feeds, by, True, labels, threads=own_threads())
    names = sorted(engine.groups)
    random.Random(0).shuffle(names)
    names = sorted(names[: asked.sites], key=lambda name: engine.groups[name].blocks[0])
    for name in names:
        if (part, name) not in table.rows:
            table.add(part, name, engine.score([Task(name, asked.type)])[0])
    return names


def agreement(
    table: Table, names: Sequence[str], parts: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Tau of each measure, on the calibration text and on the text of the changes itself."""
    change = means(table, CHANGE, names, parts)
    return {
        measure: (
            _tau([sign * x for x in means(table, measure, names, [CALIBRATION])], change),
            _tau([sign * x for x in means(table, measure, names, parts)], change),
        )
        for measure, sign in SIGNS.items()
    }


def agreement_of_halves(table: Table, names: Sequence[str], parts: Sequence[str]) -> float:
    """Tau of the changes on the two halves of the text: the best that can be expected."""
    return _tau(*(means(table, CHANGE, names, parts[i::2]) for i in (0, 1)))


def means(table: Table, measure: str, names: Sequence[str], parts: Sequence[str]) -> list[float]:
    """The mean of a measure over some parts of the text, for each site."""
    return [float(np.mean([table.rows[p, n][measure] for p in parts])) for n in names]


def _print(table: Table, names: Sequence[str], parts: Sequence[str], asked: Asked) -> None:
    """Print tau of every measure with the text so far, and of the text's halves."""
    change = means(table, CHANGE, names, parts)
    tokens = len(parts) * PART_WINDOWS * PART_TOKENS
    print(f"\n{asked.type}, {len(names)} sites, perplexity change on {tokens} tokens")
    print(f"  loss change, nats: median {np.median(change):.4f}, largest {max(change):.4f}")
    if len(parts) > 1:
        errors = [np.std([table.rows[p, n][CHANGE] for p in parts], ddof=1) for n in names]
        error = np.median(errors) / np.sqrt(len(parts))
        halves = agreement_of_halves(table, names, parts)
        print(f"  its standard error, median {error:.4f}; tau of halves {halves:.3f}")
    for measure, (calibrated, same) in agreement(table, names, parts).items():
        print(f"  {measure:10s} tau {calibrated:.3f} calibrated, {same:.3f} on the same text")


def _tau(a: Sequence[float], b: Sequence[float]) -> float:
    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
