"""The report of a planned artifact, opened in a browser as its reader does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Opened, chromium, opened

from ladder.runtime.artifact import REPORT

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]

Cli = Callable[..., Any]
CARDS = ".card"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def artifact(tiny_planned: Path, tmp_path: Path) -> Path:
    """An artifact of which nothing was measured yet."""
    return shutil.copytree(tiny_planned, tmp_path / "tiny model")


def check(report: Opened) -> None:
    """Nothing failed, and nothing but the page itself was loaded."""
    assert report.errors == []
    assert len(report.loaded) == 1 and report.loaded[0].startswith("file:")
    assert report.page.evaluate("document.documentElement.scrollWidth") <= 700


def test_what_was_not_measured_has_its_command(browser: Any, cli: Cli, artifact: Path) -> None:
    assert cli("report", artifact).code == 0
    with opened(browser, artifact / REPORT, width=700) as report:
        check(report)
        cards = report.page.locator(CARDS).all_inner_texts()
        assert [card.splitlines()[0] for card in cards] == ["Size", "Quality", "Speed", "Sample"]
        for card, command in zip(cards[1:], ("eval", "bench", "report"), strict=True):
            assert f"ladder {command} '{artifact}'" in card
        assert "KL" in cards[1] and "measured on" in cards[1]
        assert "4.2 asked for" in cards[0] and " MB" in cards[0]


def test_measured_values_are_shown(
    browser: Any, cli: Cli, artifact: Path, tmp_path: Path, calibration_text: Path
) -> None:
    scored = cli("eval", artifact, "--text", calibration_text, "--tokens", 120, "--window", 60)
    timed = cli("bench", artifact, "--tokens", 16)
    assert scored.code == timed.code == 0 and "measured.json" in scored.err and timed.err
    found = cli("report", artifact, "--prompt", "the quick", "--json").json["measured"]
    assert cli("report", artifact).code == 0
    with opened(browser, artifact / REPORT, width=700, dark=True) as report:
        check(report)
        _, quality, speed, sample = report.page.locator(CARDS).all_inner_texts()
        assert f"Perplexity {found['eval']['perplexity']:.4g}, float" in quality
        assert f"{found['bench']['decode_tokens_per_s']:.4g} tokens a second" in speed
        assert sample.split()[:3] == ["Sample", "the", "quick"]
        assert f"measured on {calibration_text.name}" in report.dom
        kernels = report.page.locator(".bars .name").all_inner_texts()
        assert set(kernels[:-1]) <= set(found["bench"]["breakdown"]) and len(kernels) == 11
        paper = report.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(20, 25, 31)"


def test_pictures_tables_and_reasons(browser: Any, cli: Cli, artifact: Path) -> None:
    sites = cli("report", artifact, "--json").json["sites"]
    assert cli("report", artifact).code == 0
    with opened(browser, artifact / REPORT) as report:
        page = report.page
        assert page.locator(".heat rect[data-site]").count() == len(sites)
        for style in ("front", "uniform", "predicted", "measured"):
            assert page.locator(f"svg .{style} circle").count() > 0
        assert page.locator("line.budget").count() == 1
        chosen = next(row for row in sites if "would cost" in row["reason"])
        page.locator(f'rect[data-site="{chosen["name"]}"]').hover()
        said = page.locator(".heat output").inner_text()
        assert chosen["reason"] in said and "int8:row: KL" in said and "kB" in said
        _sorts_and_filters(page, sites)
        assert report.errors == []


def _sorts_and_filters(page: Any, sites: list[dict[str, Any]]) -> None:
    table = page.locator("details", has=page.locator("summary", has_text="Sites"))
    assert not table.locator("tbody").is_visible()
    table.locator("summary").click()
    bits = table.locator("th button", has_text="bits per weight")
    column = table.locator("tbody tr:visible td:nth-child(6)")
    bits.click()
    shown = [float(text) for text in column.all_inner_texts()]
    assert shown == sorted(shown) and len(set(shown)) > 1 and len(shown) == len(sites)
    bits.click()
    assert [float(text) for text in column.all_inner_texts()] == shown[::-1]
    table.locator("input").fill("MLP layers.1")
    assert column.count() == 3 and "3 of 16" in table.locator(".count").inner_text()
    table.locator("input").fill("")
    assert column.count() == len(sites)
