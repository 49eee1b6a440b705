"""``--json``: one document on stdout with the keys that scripts rely on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SITE_KEYS
from tiny import CHUNK, CONTEXT

from ladder.timing import product as bench_kernel

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("cli")]

Cli = Callable[..., Any]
TEXT = "The quick brown fox jumps over the lazy dog; then it sleeps. " * 4


def check_sites(report: dict[str, Any]) -> None:
    """Two blocks of seven products, the embedding and the head."""
    assert len(report["sites"]) == 2 * 7 + 2
    assert all(SITE_KEYS <= set(row) for row in report["sites"])


def test_compile(read: Cli, tiny_chat_folder: Path, tmp_path: Path) -> None:
    """The same as the artifact of the other tests: it comes from the cache."""
    words = ["compile", tiny_chat_folder, "--type", "int4:g32", "-o", tmp_path / "out"]
    report = read(*words, "--context", CONTEXT, "--chunk", CHUNK)
    assert {"size_bytes", "bits_per_weight", "seconds", "sites", "skipped"} <= set(report)
    assert 5 <= report["bits_per_weight"] < 5.1
    size = sum(f.stat().st_size for f in (tmp_path / "out").iterdir())
    assert size == report["size_bytes"]
    check_sites(report)
    roles = {row["role"] for row in report["sites"]}
    assert roles == {
        "embed", "lm_head", "attn.q", "attn.k", "attn.v", "attn.o",
        "mlp.gate", "mlp.up", "mlp.down",
    }  # fmt: skip


def test_run(read: Cli, tiny_artifact: Path) -> None:
    result = read("run", tiny_artifact, "--prompt", "abc", "--tokens", "5")
    assert result["prompt"] == "abc" and len(result["text"]) <= 5
    assert {"seconds", "level"} <= set(result)
    assert read("run", tiny_artifact, "--prompt", "abc", "--tokens", "5")["text"] == result["text"]


def test_eval(read: Cli, tiny_artifact: Path, tiny_chat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    words = ["--text", tmp_path / "text.txt", "--tokens", "120", "--window", "40"]
    score = read("eval", tiny_artifact, *words)
    assert score["tokens"] == 3 * 39 and score["notes"] == []
    assert 1 < score["perplexity"] < math.inf
    assert 0 < score["kl_mean"] <= score["kl_p99"] and 0 <= score["top1_agreement"] <= 1
    alone = read("eval", tiny_artifact, *words, "--no-reference")
    assert alone["perplexity"] == score["perplexity"] and alone["kl_mean"] is None
    original = read("eval", tiny_chat_folder, *words)
    assert original["perplexity"] == pytest.approx(score["reference_perplexity"], rel=1e-5)


def test_bench(read: Cli, tiny_artifact: Path) -> None:
    result = read("bench", tiny_artifact, "--tokens", "40")
    keys = {"decode_tokens_per_s", "prefill_tokens_per_s", "peak_rss_bytes", "breakdown"}
    assert keys <= set(result)
    assert result["decode_tokens_per_s"] > 0 and result["prefill_tokens_per_s"] > 0
    assert any(name.startswith(("lut_gemm", "dot_gemm")) for name in result["breakdown"])


@pytest.mark.kernels
def test_bench_kernel(read: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_kernel, "SECONDS", 0.01)
    monkeypatch.setattr(bench_kernel, "ROTATED_BYTES", 1e5)
    row = read("bench", "kernel", "--type", "int4:g32", "--shape", "1x64x64")
    keys = {
        "type",
        "m",
        "n",
        "k",
        "scheme",
        "isa",
        "threads",
        "median_s",
        "weight_gb_per_s",
        "rotated_bytes",
    }
    assert keys <= set(row)
    assert (row["type"], row["m"], row["n"], row["k"]) == ("int4:g32", 1, 64, 64)
    assert row["median_s"] > 0 and row["weight_gb_per_s"] > 0


def test_report(read: Cli, cli: Cli, tiny_artifact: Path, tmp_path: Path) -> None:
    report = read("report", tiny_artifact)
    check_sites(report)
    page = tmp_path / "page.html"
    assert cli("report", tiny_artifact, "-o", page).code == 0
    assert all(row["name"] in page.read_text() for row in report["sites"])
