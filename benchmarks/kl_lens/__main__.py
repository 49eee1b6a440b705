"""KL Lens on a Mamba and on a hybrid of attention and Mamba, both trained for it.

    python -m benchmarks.kl_lens
    python -m benchmarks.kl_lens --again speed --page docs/results/kl-lens.md

Trains the models (once), makes the plans, compiles them, and measures perplexity on held-out text,
size, speed, and how well each measure ranks the sites. A second run measures only what is missing;
``--again`` names what is measured anew, and ``--no-speed`` is for a busy machine. The tables are
printed, and written into a page if one is given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from benchmarks.kl_lens.measure import FILLED, SCORED, WINDOW, Meter, Row, Saved
from benchmarks.kl_lens.plans import Planner
from benchmarks.kl_lens.ranking import TOKENS, WINDOWS, ranking
from benchmarks.kl_lens.tables import most_sensitive, plan_table, tau_table
from benchmarks.trained_models.recipes import recipe
from benchmarks.trained_models.texts import held_out_text
from benchmarks.trained_models.train import FACTS, trained
from ladder.cli.show import progress
from ladder.pipeline.sources import load_source
from ladder.support.marks import around_marks, write_between_marks
from ladder.support.processor import cpu_name

PAGE = "kl-lens"
NAMES = {"mamba": "Mamba", "hybrid": "attention/Mamba hybrid"}


def main() -> None:
    options = _options()
    if options.page:
        around_marks(options.page, PAGE)
    with progress():
        found = {model: _measured(model, options) for model in options.models.split(",")}
    lines = list(_lines(found))
    if options.page:
        write_between_marks(options.page, PAGE, lines)
    print("\n".join(lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--steps", type=int, default=0, help="of training, not those of the recipe")
    parser.add_argument("--types", default="int4:row,int8:row", help="narrow ones first")
    parser.add_argument("--bpw", default="4.5,5,6", help="budgets of the mixes")
    parser.add_argument(
        "--rank", default="int4:row,int2:row", help="types in which sites are ranked"
    )
    parser.add_argument("--parts", type=int, default=4, help="parts of 4096 tokens to rank on")
    parser.add_argument("--again", choices=["", "speed", "quality"], default="")
    parser.add_argument("--no-speed", action="store_true", help="leave speeds out that are missing")
    parser.add_argument("--work", type=Path, default=Path("build/kl_lens"))
    parser.add_argument("--page", type=Path, help="Markdown page to write the tables into")
    return parser.parse_args()


def _measured(model: str, options: argparse.Namespace) -> Row:
    """The facts of the training, the rows of the plans, and the rankings."""
    folder = trained(recipe(model, options.steps))
    work = options.work / folder.name
    work.mkdir(parents=True, exist_ok=True)
    source = load_source(folder)
    types, budgets = (tuple(text.split(",")) for text in (options.types, options.bpw))
    planner = Planner(source, folder, types, budgets, work)
    saved = Saved(work / "measured.json", options.again)
    meter = Meter(source, held_out_text(), work, saved, not options.no_speed)
    rows = [meter.original(), *(meter.row(*plan) for plan in planner.plans().items())]
    ranks = [ranking(source, type, options.parts, work) for type in options.rank.split(",")]
    facts = json.loads((folder / FACTS).read_text())
    return {"facts": facts, "rows": rows, "ranks": [{"model": NAMES[model], **r} for r in ranks]}


def _lines(found: dict[str, Row]) -> Iterator[str]:
    yield (
        f"{date.today().isoformat()}, {cpu_name()}. Perplexity and KL on {SCORED} held-out tokens, "
        f"in windows of {WINDOW}; speed of decoding after {FILLED} tokens."
    )
    for model, row in found.items():
        yield from ("", f"### {NAMES[model]}", "", _trained_text(row["facts"]), "")
        yield from plan_table(row["rows"])
    ranks = [rank for row in found.values() for rank in row["ranks"]]
    yield from ("", "### Kendall's tau", "")
    yield (
        "Between the score of a site, on "
        f"{WINDOWS * TOKENS} calibration tokens, and the change of the loss on "
        f"{ranks[0]['tokens']} held-out tokens, when this site alone is rounded. The last column "
        "is the tau of the changes on two halves of that text, the best that can be expected."
    )
    yield ""
    yield from tau_table(ranks)
    yield from ("", "The sites whose rounding alone raises the loss most:", "")
    yield from (f"- {most_sensitive(rank)}" for rank in ranks)


def _trained_text(facts: Row) -> str:
    return (
        f"{facts['parameters'] / 1e6:.2f} million parameters, {facts['steps']} steps, "
        f"{facts['tokens_seen'] / 1e6:.2f} million tokens seen, {facts['cpu_seconds'] / 60:.0f} "
        f"minutes of one core. Held-out perplexity {facts['held_out_perplexity']:.1f} (torch, "
        f"float); that of token frequencies is {facts['unigram_perplexity']:.0f}."
    )


if __name__ == "__main__":
    main()
