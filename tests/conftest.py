"""Fixtures for all tests: golden texts, a separate cache, small models."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: threads would wait in turn
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("untimed", deadline=None)  # machines are shared, so no test is timed
settings.load_profile("untimed")

SITE_KEYS = frozenset({"name", "role", "n", "k", "type", "reason"})  # of a row in a report
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Rewrite tests/golden.")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests use a separate cache, not the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LADDER_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_types() -> Iterator[None]:
    """Types that a test registers are removed after it."""
    from ladder.ir.element import ELEMENTS

    before = dict(ELEMENTS)
    yield
    ELEMENTS.clear()
    ELEMENTS.update(before)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare with tests/golden/NAME.txt (the test's name); ``--update-golden`` rewrites it."""
    of_test = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")

    def compare(text: str, name: str = of_test) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no {path.name}: run pytest --update-golden and read what it wrote"
        assert text == path.read_text(), f"{path.name} differs; --update-golden accepts the change"

    return compare


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model without a tokenizer."""
    from tiny import write_model

    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a tokenizer of characters."""
    from tiny import write_model, write_tokenizer

    return write_tokenizer(write_model(tmp_path_factory.mktemp("tiny-chat")))


@pytest.fixture(scope="session")
def tiny_artifact(tiny_chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model compiled for this CPU at int4:g32. Tests that change it copy it first."""
    from tiny import CHUNK, CONTEXT

    import ladder

    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    ladder.compile(tiny_chat_folder, folder, type="int4:g32", context=CONTEXT, chunk=CHUNK)
    return folder


def planned_options(text: Path) -> dict[str, Any]:
    """The options of the planned tiny model; all that is measured for them is in the cache."""
    from tiny import CHUNK, CONTEXT

    return {
        "bpw": "4.2",
        "types": "int2:g32,int3:g32,int4:g32,int8:row",
        "calib": text,
        "windows": 2,
        "tokens": 24,
        "context": CONTEXT,
        "chunk": CHUNK,
        "rules": "lm_head=int8:row",
    }


@pytest.fixture(scope="session")
def calibration_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return path


@pytest.fixture(scope="session")
def tiny_planned(
    tiny_chat_folder: Path, calibration_text: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same model with a plan of 4.2 bits per weight. Tests that change it copy it first."""
    import ladder

    folder = tmp_path_factory.mktemp("artifacts") / "planned"
    ladder.compile(tiny_chat_folder, folder, **planned_options(calibration_text))
    return folder


@pytest.fixture(scope="session")
def smollm2_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M compiled for this CPU at int4:g128, int8 activations. Not to be changed."""
    from fetch import package_file

    import ladder
    from ladder.demo import MODEL

    folder = tmp_path_factory.mktemp("artifacts") / "smollm2"
    model = package_file(*MODEL)
    options: Any = {"type": "int4:g128", "activation": "int8", "kv_type": "fp32"}
    ladder.compile(model, folder, context=256, chunk=64, **options)
    return folder


@dataclass(frozen=True)
class Ran:
    """The exit code and both output streams of a command, and the stages that it reported."""

    code: int
    out: str
    err: str
    stages: tuple[str, ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def without_stages(stderr: str) -> str:
    """What a command says on stderr, without the lines that say which stage begins."""
    from ladder.cli.show import STAGE

    return "".join(line for line in stderr.splitlines(True) if not line.startswith(STAGE))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process, through its real entry point."""
    from ladder.cli import main
    from ladder.cli.show import STAGE

    def run(*words: object) -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["ladder", *map(str, words)])
        monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", False)
        with pytest.raises(SystemExit) as exit:
            main()
        read = capsys.readouterr()
        code = exit.value.code
        lines = read.err.splitlines()
        stages = tuple(line.removeprefix(STAGE) for line in lines if line.startswith(STAGE))
        errors = without_stages(read.err)
        return Ran(code if isinstance(code, int) else 0, read.out, errors, stages)

    return run


@pytest.fixture
def read(cli: Callable[..., Ran]) -> Callable[..., Any]:
    """The JSON that a command prints; nothing else on stdout, exit code 0."""

    def run(*words: object) -> Any:
        ran = cli(*words, "--json")
        assert ran.code == 0, ran
        return json.loads(ran.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return run
