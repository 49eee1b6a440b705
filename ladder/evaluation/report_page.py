"""``ladder report``: one self-contained HTML page about an artifact."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladder.evaluation.explained import plan_tables, planned
from ladder.evaluation.heat_map import heat_map
from ladder.evaluation.measured import BENCH, Results, measured
from ladder.evaluation.pages.render import render
from ladder.evaluation.pareto_picture import pareto_pictures
from ladder.evaluation.sensitivity_picture import sensitivity_picture
from ladder.evaluation.tables import Table, table
from ladder.evaluation.token_time import token_time
from ladder.evaluation.verdict import verdict
from ladder.runtime.artifact import MANIFEST
from ladder.support.disk_space import bytes_on_disk
from ladder.support.files import file_aside

DEFAULT_FOLDER = "DIR"


def write_page(manifest: dict[str, Any], target: Path, folder: Path) -> None:
    """Write the page for the artifact in ``folder``, with what was measured of it."""
    files = [folder / name for name in (MANIFEST, *manifest["files"])]
    text = page(manifest, measured(folder), str(folder), bytes_on_disk(files))
    with file_aside(target) as aside:
        aside.write_text(text, encoding="utf-8")


def page(
    manifest: dict[str, Any],
    found: Results | None = None,
    folder: str = DEFAULT_FOLDER,
    size: int | None = None,
) -> str:
    """The text of the page: the verdict, pictures, then folded tables.

    ``folder`` is named in commands; ``size`` is what it takes on disk, if that is known.
    """
    report, found, where = manifest["report"], found or {}, shlex.quote(folder)
    return render(
        "report.html",
        title=Path(report["model"]).name,
        cards=verdict(report, found, where, size or report["size_bytes"]),
        paretos=pareto_pictures(report, found),
        heat=heat_map(report, planned(report)),
        sensitivity=sensitivity_picture(report["sites"], planned(report)),
        times=token_time(found.get(BENCH)),
        bench=f"ladder bench {where}",
        plan=f"ladder compile {shlex.quote(report['model'])} -o {where} --bpw 3.5",
        tables=[*plan_tables(report.get("plan")), *_tables(manifest)],
        notes=report["notes"],
        assumed=report["assumed"],
    )


def _tables(manifest: Mapping[str, Any]) -> list[Table]:
    report = manifest["report"]
    return [
        _sites(report),
        _by_role(report["sites"]),
        _kernels(report["kernels"]),
        table("Skipped", ["name", "reason"], report["skipped"]),
        _about(manifest),
    ]


def _about(manifest: Mapping[str, Any]) -> Table:
    report = manifest["report"]
    rows = [
        ("bits per weight, scales included", f"{report['bits_per_weight']:.3f}"),
        ("size on disk", f"{report['size_bytes'] / 1e6:.1f} MB"),
        ("compiled in", f"{report['seconds']:.1f} s"),
        ("instruction-set levels", ", ".join(manifest["levels"])),
        ("functions", ", ".join(f["name"] for f in manifest["functions"])),
        ("versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())),
        ("model", f"{report['model']} (sha256 {manifest['origin']['digest'][:16]}...)"),
    ]
    return Table("The artifact", ["", ""], rows)


def _by_role(sites: list[dict[str, Any]]) -> Table:
    sizes: dict[tuple[str, str], int] = {}
    for site in sites:
        key = (site["role"], site["type"])
        sizes[key] = sizes.get(key, 0) + site["n"] * site["k"]
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    rows = [(role, kind, round(size / 1e6, 3)) for (role, kind), size in ordered]
    return Table("Weights by role", ["role", "type", "millions of weights"], rows)


def _sites(report: Mapping[str, Any]) -> Table:
    heads = {"name": "site", "role": "role", "n": "out features", "k": "in features"}
    heads |= {"type": "type", "bits": "bits per weight", "weight_error": "relative error"}
    heads |= {"reason": "why"}
    rows = report["sites"]
    if any("outliers" in row for row in rows):
        rows = [{**row, "remedy": _outliers(row)} for row in rows]
        heads["remedy"] = "outliers of its input"
    return table("Sites", heads, rows)


def _outliers(site: Mapping[str, Any]) -> str:
    """The outlier method, its reason, and the errors of all methods that were tried."""
    errors = site.get("outlier_errors", {}).items()
    tried = ", ".join(f"{method} {error:.4f}" for method, error in errors)
    said = [f"{site.get('outliers', '-')}: {site.get('outlier_reason', '')}"]
    said += [f"errors of products: {tried}"] if tried else []
    said += [f"{name}: {why}" for name, why in site.get("outlier_refused", {}).items()]
    return "; ".join(said)


def _kernels(rows: list[dict[str, Any]]) -> Table:
    """The kernel of each product on each level, and the reason."""
    keys = ["level", "function", "type", "sites", "stack", "scheme", "activation", "reason"]
    return table("Kernels", keys, rows)
