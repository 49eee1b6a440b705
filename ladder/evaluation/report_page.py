"""``ladder report``: one self-contained HTML page about an artifact."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ladder.support.files import file_aside

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b2733; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #dde3e9; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { background: #2f6fab; height: .8rem; border-radius: 2px; }
.muted { color: #617182; }
"""


def write_page(manifest: dict[str, Any], target: Path) -> None:
    """Write the page for an artifact's manifest."""
    with file_aside(target) as aside:
        aside.write_text(page(manifest), encoding="utf-8")


def page(manifest: dict[str, Any]) -> str:
    """The text of the page: summary, plan, sizes by role, sites, kernels, skipped nodes, notes."""
    report = manifest["report"]
    name = escape(Path(report["model"]).name)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>",
        f"<style>{STYLE}</style><h1>{name}</h1>",
        _summary(manifest),
        *_plan(report.get("plan")),
        "<h2>Where the weights are</h2>",
        _by_role(report["sites"]),
        "<h2>Sites</h2>",
        _sites(report["sites"]),
        "<h2>Kernels</h2>",
        _kernels(report["kernels"]),
        "<h2>Skipped</h2>",
        _skipped(report["skipped"]),
        "<h2>Notes</h2>",
        "".join(f"<p>{escape(note)}" for note in report["notes"]) or "<p>None.",
        "<h2>Assumed</h2>",
        f"<p>{escape(', '.join(report['assumed']) or 'nothing')}</p>",
    ]
    return "\n".join(parts)


def _summary(manifest: dict[str, Any]) -> str:
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
    return _table(["", ""], rows)


def _plan(plan: dict[str, Any] | None) -> list[str]:
    """What was asked for, predicted and measured, and the uniform plans on the same axes."""
    if not plan:
        return []
    asked, predicted, measured = plan["asked"], plan["predicted"], plan["measured"]
    metric = str(predicted.get("metric", "loss"))
    facts = {"budget": asked.get("budget"), "least": asked.get("minimised")}
    facts |= {key: asked[key] for key in ("types", "rules", "keep", "text") if asked.get(key)}
    facts |= {f"measured {key}": value for key, value in measured.items()}
    columns = [c for c in ("loss", "bytes", "bpw", "seconds", "prefill") if c in predicted]
    rows = {**plan["uniform"], "this plan": predicted}
    shown = [(name, *(_number(row.get(c)) for c in columns)) for name, row in rows.items()]
    heads = ["predicted", *(metric if c == "loss" else c for c in columns)]
    notes = "".join(f"<p>{escape(str(note))}" for note in asked.get("notes", []))
    summary = _table(["", ""], [(key, _number(value)) for key, value in facts.items()])
    return ["<h2>Plan</h2>", summary, _table(heads, shown), notes]


def _number(value: Any) -> str:
    """A number as text. A plan file may have been edited, so any other value is shown as it is."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _by_role(sites: list[dict[str, Any]]) -> str:
    sizes: dict[tuple[str, str], int] = {}
    for site in sites:
        key = (site["role"], site["type"])
        sizes[key] = sizes.get(key, 0) + site["n"] * site["k"]
    largest = max(sizes.values(), default=1)
    rows = []
    for (role, kind), size in sorted(sizes.items(), key=lambda item: -item[1]):
        bar = f'<div class=bar style="width:{100 * size / largest:.1f}%"></div>'
        rows.append(
            f"<tr><td>{escape(role)}<td>{escape(kind)}"
            f"<td class=number>{size / 1e6:.2f} M<td style='width:50%'>{bar}"
        )
    head = "<tr><th>role<th>type<th class=number>weights<th>"
    return f"<table>{head}{''.join(rows)}</table>"


def _sites(sites: list[dict[str, Any]]) -> str:
    rows: list[tuple[Any, ...]] = []
    outliers = any("outliers" in s for s in sites)
    for s in sites:
        error = "-" if s["weight_error"] is None else f"{s['weight_error']:.4f}"
        row = (s["name"], s["role"], s["n"], s["k"], s["type"], error, s["reason"])
        rows.append((*row, _outliers(s)) if outliers else row)
    head = ["site", "role", "out features", "in features", "type", "relative error", "why"]
    head += ["outliers of its input"] if outliers else []
    return _table(head, rows)


def _outliers(site: dict[str, Any]) -> str:
    """The outlier method, its reason, and the errors of all methods that were tried."""
    errors = site.get("outlier_errors", {}).items()
    tried = ", ".join(f"{method} {error:.4f}" for method, error in errors)
    said = [f"{site.get('outliers', '-')}: {site.get('outlier_reason', '')}"]
    said += [f"errors of products: {tried}"] if tried else []
    said += [f"{name}: {why}" for name, why in site.get("outlier_refused", {}).items()]
    return "; ".join(said)


def _kernels(rows: list[dict[str, Any]]) -> str:
    """The kernel of each product on each level, and the reason."""
    keys = ["level", "function", "type", "sites", "stack", "scheme", "activation", "reason"]
    return _table(keys, [tuple(row.get(key, "") for key in keys) for row in rows])


def _skipped(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "<p>Nothing: every weight that a product reads is low-bit.</p>"
    return _table(["name", "reason"], [(r["name"], r["reason"]) for r in rows])


def _table(head: list[str], rows: list[tuple[Any, ...]]) -> str:
    def cells(tag: str, values: Any) -> str:
        return "".join(f"<{tag}>{escape(str(v))}" for v in values)

    body = "".join(f"<tr>{cells('td', row)}" for row in rows)
    top = f"<tr>{cells('th', head)}" if any(head) else ""
    return f"<table>{top}{body}</table>"
