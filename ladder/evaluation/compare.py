"""``ladder compare``: artifacts, GGUF and ONNX files in one table and one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.evaluation.measured import BENCH, EVAL, measured
from ladder.evaluation.pages.render import render
from ladder.evaluation.picture import Picture, Point, Series, picture
from ladder.evaluation.tables import Table, table
from ladder.evaluation.weight_counts import Counts, gguf_counts, onnx_counts
from ladder.frontend.gguf.parts import parts_of
from ladder.frontend.load import FRONTENDS
from ladder.frontend.onnx_file import file_digest
from ladder.runtime.artifact import MANIFEST, read_manifest
from ladder.support.files import file_aside
from ladder.support.quality import quality

ARTIFACT, GGUF, ONNX = "artifact", "GGUF", "ONNX"
HTML, SVG = ".html", ".svg"
HEADS = {
    "name": "model", "kind": "kind", "mb": "MB", "bits_per_weight": "bits per weight",
    "mix": "types", "perplexity": "perplexity", "kl": "KL", "text": "measured on",
    "decode_tokens_per_s": "tokens a second", "words": "in words",
}  # fmt: skip


@dataclass
class Compared:
    """One model. ``types`` are numbers of weights; what was not measured is None.

    ``digest`` is that of the file, or of the model that an artifact was made from.
    """

    name: str
    kind: str
    size_bytes: int
    bits_per_weight: float | None
    types: dict[str, int]
    digest: str
    perplexity: float | None = None
    kl: float | None = None
    text: str | None = None
    decode_tokens_per_s: float | None = None
    machine: str | None = None
    reference_perplexity: float | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Its values as JSON."""
        return asdict(self)

    @property
    def shown(self) -> dict[str, Any]:
        """Its values as a row of a table."""
        total = sum(self.types.values())
        most = sorted(self.types.items(), key=lambda item: -item[1])
        mix = ", ".join(f"{count / total:.0%} {type}" for type, count in most)
        words = quality(self.kl) if self.kl is not None else None
        return {**asdict(self), "mb": round(self.size_bytes / 1e6, 2), "mix": mix, "words": words}


def compare(paths: Sequence[Path]) -> list[Compared]:
    """Every model in the order given; a ``LadderError`` names one that cannot be read."""
    rows = [_read(path) for path in paths]
    _fill_in_originals(rows)
    return rows


def _read(path: Path) -> Compared:
    if (path / MANIFEST).exists():
        return _artifact(path)
    kind = next((frontend.kind for frontend in FRONTENDS if frontend.accepts(path)), "")
    if not path.is_file() or kind not in (GGUF, ONNX):
        raise LadderError(f"{path}: give artifact folders, GGUF files and ONNX files")
    if kind == GGUF:
        return _file(path, GGUF, parts_of(path), gguf_counts(path))
    data = path.with_name(f"{path.name}.data")
    return _file(path, ONNX, [path, *([data] if data.exists() else [])], onnx_counts(path))


def _file(path: Path, kind: str, files: Sequence[Path], counts: Counts) -> Compared:
    size = sum(file.stat().st_size for file in files)
    digest = file_digest(*sorted(files)) if kind == GGUF else ""
    return Compared(path.name, kind, size, counts.bits_per_weight, counts.types, digest)


def _artifact(path: Path) -> Compared:
    manifest, found = read_manifest(path), measured(path)
    report, scored, timed = manifest["report"], found.get(EVAL, {}), found.get(BENCH, {})
    types: dict[str, int] = {}
    for row in report["sites"]:
        if "tied" not in row:  # its weight is counted already
            types[row["type"]] = types.get(row["type"], 0) + row["n"] * row["k"]
    size, bits = int(report["size_bytes"]), float(report["bits_per_weight"])
    row = Compared(path.resolve().name, ARTIFACT, size, bits, types, manifest["origin"]["digest"])
    row.perplexity, row.kl = scored.get("perplexity"), scored.get("kl_mean")
    row.reference_perplexity = scored.get("reference_perplexity")
    row.text = f"{scored['text']}, {scored['tokens']} tokens" if scored else None
    row.decode_tokens_per_s = timed.get("decode_tokens_per_s")
    row.machine = timed.get("machine")
    if report["language_model"]:
        row.notes += [] if scored else [f"not scored: ladder eval {path} --text TEXT.txt"]
        row.notes += [] if timed else [f"not timed: ladder bench {path}"]
    return row


def _fill_in_originals(rows: Sequence[Compared]) -> None:
    """A GGUF file that an artifact was made from has the perplexity that it was compared with."""
    for row in rows:
        known = [
            other
            for other in rows
            if other.kind == ARTIFACT and other.digest == row.digest and other.reference_perplexity
        ]
        if row.kind == GGUF and known:
            row.perplexity, row.kl = known[0].reference_perplexity, 0.0
            row.text = known[0].text
            row.notes.append(f"scored as the original of {known[0].name}, in float arithmetic")


def compared_table(rows: Sequence[Compared]) -> Table:
    """The models as a table; columns of which nothing is known are left out."""
    shown = [row.shown for row in rows]
    heads = {key: name for key, name in HEADS.items() if any(row[key] is not None for row in shown)}
    return table("Models", heads, shown)


def compared_picture(rows: Sequence[Compared]) -> Picture | None:
    """Size and KL of the models; their perplexity where fewer have a KL. None if none has one."""
    by_kl = [(row, row.kl) for row in rows if row.kl]
    by_perplexity = [(row, row.perplexity) for row in rows if row.perplexity]
    better = len(by_kl) >= len(by_perplexity)
    drawn = by_kl if better else by_perplexity
    points = [
        Point(row.size_bytes / 1e6, y, f"{row.name}: {y:.4g}", row.name)
        for row, y in drawn
        if y is not None
    ]
    name = "KL from the float model, nats per token" if better else "perplexity"
    return picture("Size and loss", ("MB", name), [Series("models", "measured", points)])


def write_comparison(path: Path, rows: Sequence[Compared]) -> None:
    """Write the page (.html) or the picture (.svg)."""
    check_output(path)
    drawn, notes = compared_picture(rows), [(row.name, n) for row in rows for n in row.notes]
    if path.suffix.lower() == HTML:
        found = compared_table(rows)
        text = render("compare.html", title="Compared", table=found, picture=drawn, notes=notes)
    elif drawn is None:
        raise LadderError(f"{path}: there is no loss to draw; run 'ladder eval' on the artifacts")
    else:
        text = render("alone.svg", picture=drawn)
    with file_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def check_output(path: Path) -> None:
    """Refuse a file of another kind, before any work."""
    if path.suffix.lower() not in (HTML, SVG):
        raise LadderError(f"{path}: give a file that ends in {HTML} or {SVG}")
