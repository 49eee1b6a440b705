"""The blocks of every page run, in order and from an empty folder.

A comment ``<!-- not run: REASON -->`` before a block leaves it out; the golden text lists all of
these blocks. Their commands must still be such as the command line accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import command_line
import gguf_files
import page_runner
import pytest
from markdown_it import MarkdownIt
from markdown_pages import ROOT, name_of, pages
from sybil import Example

from ladder import samples
from ladder.timing import product

REASONS = {
    "another machine": "it is for a device, or talks to one",
    "installs": "it installs or fetches packages",
    "a server": "it serves until it is stopped, or asks the server; tests/serving does so",
    "minutes": "it takes minutes, on a machine that does nothing else",
    "the repository": "it works on a clone of the repository, not on files of the page",
}
OWN_CACHE = {"ladder cache", "ladder tune"}  # other tests would miss, or see, what these leave
LANGUAGES = {"bash", "python", "json", "text", "toml", "yaml"}
ALL = [*pages(), *(ROOT / name / "README.md" for name in ("benchmarks", "examples"))]
RUN = [page for page in ALL if any(page_runner.examples(page))]


def not_run() -> Iterator[tuple[Path, Example, str]]:
    for page in ALL:
        for example in page_runner.parse(page):
            reason = page_runner.reason_not_run(example)
            if reason is not None:
                yield page, example, reason


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What takes the place of SmolLM2 here."""
    return gguf_files.write_with_tokenizer(tmp_path_factory.mktemp("pages") / "small.gguf")


@pytest.mark.kernels
@pytest.mark.models
@pytest.mark.xdist_group("pages")  # they share kernels and artifacts through the cache
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs(
    page: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(samples.VARIABLE, str(small_model))
    monkeypatch.setattr(product, "ROTATED_BYTES", 1e6)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    if OWN_CACHE & set(re.findall(r"ladder \w+", page.read_text(encoding="utf-8"))):
        monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    page_runner.run_page(page)


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_every_block_has_a_language(page: Path) -> None:
    """A block without one would neither be run nor be seen not to be."""
    blocks = [t for t in MarkdownIt().parse(page.read_text(encoding="utf-8")) if t.tag == "code"]
    found = {(block.map[0] + 1, block.info) for block in blocks if block.map}
    assert {(line, info) for line, info in found if info not in LANGUAGES} == set()


def test_what_is_not_run(golden: Callable[..., None]) -> None:
    rows = [(name_of(p), reason, e.parsed.splitlines()[0]) for p, e, reason in not_run()]
    assert {reason for _, reason, _ in rows} == set(REASONS)
    golden("".join(f"{' | '.join(row)}\n" for row in rows), "docs_not_run")


def test_commands_that_are_not_run_are_commands() -> None:
    for _, example, _ in not_run():
        for line in page_runner.commands(example.parsed):
            if line.text.startswith("ladder ") and line.plain:
                command_line.check(line.words[1:])
