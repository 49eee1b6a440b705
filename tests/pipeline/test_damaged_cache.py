"""A flipped byte in the cache, in every kind of entry: it is reported, and made again."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

import ladder
from ladder.blockwise.weights import find_groups
from ladder.calibration.activations import collect_activations
from ladder.calibration.data import sample_data
from ladder.calibration.gptaq import round_in_order
from ladder.calibration.hessians import collect
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.evaluation.scoring import score_file
from ladder.frontend.types import Source
from ladder.hardware.targets import LEVELS
from ladder.ir.blocks import find_blocks
from ladder.ir.dtype import DType
from ladder.ir.facts import PreRounded
from ladder.ir.site import find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.runner import run_passes
from ladder.passes.rounding.pre_rounded import load_outcome
from ladder.pipeline.float_check.check import check_float
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.sources import known_model, load_source
from ladder.runtime import load
from ladder.sensitivity.measure import measure_feeds
from ladder.support import cache, entry_record, packages
from ladder.support.entry_record import RECORD
from ladder.timing import kernel_cache, product_costs
from ladder.timing.cost_tables import machine_of, save_tuned
from ladder.timing.steadiness import Timed

pytestmark = pytest.mark.kernels
LEVEL = "x86-64-v3"
CHAIN = """g (float[8, 64] x) => (float[8, 64] y) {
    a = MatMul (x, p)  r = Relu (a)  y = MatMul (r, q)
}"""
X = random(6, 8, 64, seed=9)
TYPE = "int2:g32"
Make = Callable[[], Any]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(product_costs, "_timed", lambda *_: Timed((0.25,)))
    monkeypatch.setattr(packages, "_download", download)
    monkeypatch.setattr("ladder.codegen.kernel_library.build_kernels", build)
    return tmp_path / "cache"


def download(requirement: str, folder: Path) -> None:
    with zipfile.ZipFile(folder / "one.whl", "w") as wheel:
        wheel.writestr("data/text.txt", "a text " * 100)


def build(level: object, types: object, path: Path) -> None:
    path.write_bytes(b"a library " * 100)


def source() -> Source:
    weights = {name: random(64, 64, seed=i) / 8 for i, name in enumerate("pq")}
    return Source(ir.from_proto(graph(CHAIN, weights, opset=25)), "chain", "damaged-chain")


def arrays(files: Mapping[str, str]) -> list[Any]:
    return [np.load(file).tolist() for _, file in sorted(files.items())]


def codes(done: PreRounded) -> list[Any]:
    files = sorted(done.files.items())
    return [load_outcome(Path(file)).rounded.codes.tolist() for _, file in files]


def made_hessians() -> Any:
    return arrays(collect(source(), sample_data(source(), {"x": X}, "x"), 1).files)


def made_activations() -> Any:
    return arrays(collect_activations(source(), sample_data(source(), {"x": X}, "x"), 1).files)


def made_rounded() -> Any:
    model = source()
    (first, *_) = find_groups(model.model, find_blocks(model.model))
    return RoundedWeights(model, "rtn", None)(first, DType.parse(TYPE)).tolist()


def made_ordered() -> Any:
    model = source()
    data = sample_data(model, {"x": X}, "x")
    types = {site.name: DType.parse(TYPE) for site in find_sites(model.model)[0]}
    return codes(round_in_order(model, data, types, collect(model, data, 1), 1))


def made_learned() -> Any:
    from ladder.calibration.learned.result import learned_of

    model = source()
    data = sample_data(model, {"x": X}, "x")
    types = {site.name: DType.parse(TYPE) for site in find_sites(model.model)[0]}
    begun = round_in_order(model, data, types, collect(model, data, 1), 1)
    return codes(learned_of(model, data, types, begun))


def made_checks() -> Any:
    model = source()
    run_passes(model.model, (*PREPARE, AllocateUniform(DType.parse(TYPE))))
    return check_float(model.model, model, "")


def made_scores() -> Any:
    return measure_feeds(source(), [TYPE, "int4:g32"], {"x": X}, "rtn").scores


def made_tuned() -> Any:
    if machine_of(LEVEL).origins == {}:
        row = {"type": "int4:g32", "m": 1, "scheme": "dot", "median_s": 0.5}
        save_tuned(LEVEL, [row], "here")
    return machine_of(LEVEL).costs


def made_costs() -> Any:
    keys = [("int4:g32", 1, (64, 64)), ("int4:g32", 8, (64, 64))]
    return product_costs.measured(keys, 8, LEVELS[LEVEL], "int8").decode


def made_package() -> Any:
    return packages.package_file("one==1.0", "*.txt").read_text()


def made_kernels() -> Any:
    kernel_cache.build(LEVELS[LEVEL])
    return kernel_cache.place_of(LEVELS[LEVEL]).read_bytes()


KINDS: dict[str, Make] = {
    "hessians": made_hessians,
    "activations": made_activations,
    "rounded": made_rounded,
    "ordered": made_ordered,
    "learned": made_learned,
    "checks": made_checks,
    "sensitivity": made_scores,
    "tuned": made_tuned,
    "costs": made_costs,
    "packages": made_package,
    "kernels": made_kernels,
}


def files_of(root: Path, kind: str) -> list[Path]:
    return sorted(path for path in (root / kind).rglob("*") if path.is_file())


def damage(path: Path) -> None:
    """One bit in the middle; a digit stays a digit, so that it could be believed."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_entry_is_made_again(
    kind: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = KINDS[kind]()
    assert KINDS[kind]() == wanted
    capsys.readouterr()
    files = files_of(root, kind)
    assert files
    for path in files:
        damage(path)
        assert KINDS[kind]() == wanted, path
        err = capsys.readouterr().err
        assert err.startswith(f"ladder: note: {root}/{kind}/") and "made again" in err, path
        assert KINDS[kind]() == wanted and capsys.readouterr().err == ""
        assert files_of(root, kind) == files


def test_every_kind_is_tested() -> None:
    assert {*KINDS, "traces", "artifacts"} == {*cache.MAKERS, "packages"}


def test_scores_that_were_multiplied(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = made_scores()
    (path,) = files_of(root, "sensitivity")
    text = path.read_text()
    path.write_text(text.replace(": 0.", ": 1000."))
    assert path.read_text() != text and made_scores() == wanted
    assert "scores are damaged; they are made again" in capsys.readouterr().err


def test_a_damaged_library_is_not_loaded(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_kernels()
    damage(kernel_cache.place_of(LEVELS[LEVEL]))
    kernel_cache.forget()
    assert kernel_cache.function("any", LEVEL) is None
    assert "damaged" in capsys.readouterr().err


@pytest.fixture
def compiled(root: Path, tmp_path: Path) -> Make:
    """Compiles a model anew; gives the result of running it."""
    weights = {"up.weight": random(64, 96), "down.weight": random(96, 64)}
    text = """g (float[3, 64] x) => (float[3, 64] y) {
        a = MatMul(x, "up.weight")  y = MatMul(a, "down.weight")
    }"""
    onnx.save(graph(text, weights), tmp_path / "model.onnx")

    def make() -> Any:
        ladder.compile(tmp_path / "model.onnx", tmp_path / "out", type="int4:g32")
        session: Any = load(tmp_path / "out")
        return session.run({"x": random(3, 64, seed=1)})["y"]

    return make


def test_a_damaged_artifact_is_compiled_again(
    compiled: Make, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = compiled()
    for pattern in ("*.so", RECORD):
        (path,) = root.glob(f"artifacts/*/{pattern}")
        damage(path)
        np.testing.assert_array_equal(compiled(), wanted)
        assert "damaged" in capsys.readouterr().err, path


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_a_damaged_trace(
    content: bytes,
    root: Path,
    tiny_chat_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It does not break others' evaluation, and is traced again when it is needed."""
    found = load_source(tiny_chat_folder)
    (path,) = root.glob("traces/*/source.json")
    other = root / "traces" / "other"
    other.mkdir()
    (other / "source.json").write_bytes(content)
    assert known_model(found.digest) == path.parent
    path.write_bytes(content)
    assert known_model(found.digest) is None and "damaged" in capsys.readouterr().err
    assert load_source(tiny_chat_folder).digest == found.digest
    assert known_model(found.digest) == path.parent
    (tmp_path / "text.txt").write_text("the quick brown fox " * 20)
    before = score_file(tiny_chat_folder, tmp_path / "text.txt", 64, 32, False).perplexity
    damage(path.with_name("model.data"))
    after = score_file(tiny_chat_folder, tmp_path / "text.txt", 64, 32, False).perplexity
    assert "damaged (the hash of model.data is not" in capsys.readouterr().err and after == before


def test_records_are_the_last_of_an_entry(root: Path, tiny_chat_folder: Path) -> None:
    load_source(tiny_chat_folder)
    (place,) = (root / "traces").iterdir()
    (place / RECORD).unlink()
    assert entry_record.read_record(place) == {}
    load_source(tiny_chat_folder)
    assert set(entry_record.read_record(place)) == {"model.onnx", "model.data", "source.json"}
