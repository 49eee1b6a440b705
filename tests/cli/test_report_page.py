"""The HTML page of an artifact agrees with its manifest."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from ladder.evaluation.report_page import page
from ladder.runtime.artifact import MANIFEST

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("cli")]


def test_every_site_and_every_kernel_with_its_reason(tiny_artifact: Path) -> None:
    manifest = json.loads((tiny_artifact / MANIFEST).read_text())
    text = html.unescape(page(manifest))
    report = manifest["report"]
    assert report["sites"] and report["kernels"]
    for site in report["sites"]:
        assert site["name"] in text and site["reason"] in text
    for kernel in report["kernels"]:
        assert kernel["reason"] in text and kernel["level"] in text
    assert sum(k["sites"] for k in report["kernels"] if k["function"] == "decode") >= 1


def test_names_are_escaped(tiny_artifact: Path) -> None:
    manifest = json.loads((tiny_artifact / MANIFEST).read_text())
    manifest["report"]["sites"][0]["name"] = "<script>alert(1)</script>"
    assert "<script>alert" not in page(manifest)
