"""``ladder tune kernels``: times measured here replace the shipped table, which is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.passes.kernel_choice import SCHEMES, choose
from ladder.support import cache, entries
from ladder.timing import cost_tables as costs
from ladder.timing import steadiness, tune
from ladder.timing.cost_tables import machine_of, measured_on, save_tuned, tuned_file
from ladder.timing.product import level_here
from ladder.timing.steadiness import Timed

Cli = Callable[..., Any]
LEVEL = "x86-64-v3"
INT4, INT2 = DType.parse("int4:g32"), DType.parse("int2:g32")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))


def rows(type: str, **seconds: float) -> list[dict[str, Any]]:
    return [{"type": type, "m": 1, "scheme": s, "median_s": t} for s, t in seconds.items()]


def test_a_tuned_table_replaces_the_shipped_one() -> None:
    shipped = choose(INT4, "int8", 1, machine_of(LEVEL))
    assert "(shipped: " in shipped.reason
    for slow, fast in (("lut", "dot"), ("dot", "lut")):
        table = rows("int4:g128", **{slow: 2e-3, fast: 1e-3})
        save_tuned(LEVEL, table, measured_on(8, 16, 1))
        found = choose(INT4, "int8", 1, machine_of(LEVEL))
        assert found.scheme == fast
        assert f"{fast} 1 ms, {slow} 2 ms at M=1 (tuned here: 8x16, 1 threads, " in found.reason
    assert "(shipped: " in choose(INT2, "int8", 1, machine_of(LEVEL)).reason


def test_tables_are_added_to() -> None:
    path = tuned_file(LEVEL)
    save_tuned(LEVEL, rows("int4:g128", lut=1.0, dot=2.0), "first")
    save_tuned(LEVEL, rows("int2:g128", lut=1.0, dot=2.0), "second")
    assert set(json.loads(path.read_text())["seconds"]) == {"int4", "int2"}
    assert not list(path.parent.glob(".*"))


def test_another_machine_has_another_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are by CPU, threads, level, and the source of the kernels."""
    places = {tuned_file(LEVEL), tuned_file("x86-64")}
    for module, name, value in (
        (costs, "cpu_name", lambda: "Z80"),
        (costs, "threads", lambda: 99),
        (cache, "code_digest", lambda kind: "other kernels"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            places.add(tuned_file(LEVEL))
    assert len(places) == 5


def test_a_damaged_table() -> None:
    path = tuned_file(LEVEL)
    for text in ("{", '{"seconds": 3}', '{"seconds": {"int4": {"lut": {"a": 1}}}}'):
        with entries.put(path.parent, path.name) as aside:
            aside.write_text(text)
        with pytest.raises(LadderError, match="not a table of kernel times; delete it, or run"):
            machine_of(LEVEL)


def test_types_without_a_choice() -> None:
    level = level_here("native")
    for dtype in map(DType.parse, tune.COMMON):
        assert set(tune.schemes_of(dtype, level)) <= set(SCHEMES[1:])
    with pytest.raises(LadderError, match="--types: 'fp16' is a float"):
        tune.tune_kernels("native", ("fp16",))
    with pytest.raises(LadderError, match="arm64: this CPU cannot run it"):
        tune.tune_kernels("arm64")


@pytest.mark.kernels
def test_kernels_are_timed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real measurement, of small weights."""
    for name, value in (("N", 64), ("K", 128), ("ROTATED", 1e5), ("SECONDS", 1e-4)):
        monkeypatch.setattr(tune, name, value)
    for name, limit in (("CPU_SHARE", 0.0), ("SPREAD", float("inf"))):  # whatever else runs here
        monkeypatch.setattr(steadiness, name, limit)
    ran = cli("tune", "kernels", "--types", "int4:g32,int4:g64", "--json")
    assert ran.code == 0, ran
    result = ran.json
    level = level_here("native")
    assert [row["m"] for row in result["rows"]] == list(tune.TOKENS)
    for row in result["rows"]:
        assert list(row["times"]) == tune.schemes_of(DType.parse("int4:g32"), level)
        assert all(seconds > 0 for seconds in row["times"].values())
        assert row["fastest"] == min(row["times"], key=lambda s: row["times"][s])
        found = choose(INT4, "int8", row["m"], machine_of(level.name))
        assert found.scheme == row["chosen"] and "(tuned here: 64x128" in found.reason
    assert Path(result["file"]) == tuned_file(level.name)
    (shown,) = cli("tune", "show", "--json").json
    assert shown["level"] == level.name and list(shown["seconds"]) == ["int4"]
    monkeypatch.setattr(steadiness, "CPU_SHARE", float("inf"))
    busy = cli("tune", "kernels", "--types", "int4:g32").out
    assert "4 of 4 times were taken while the machine was busy and are not kept" in busy
    assert "Saved to" not in busy
    assert cli("tune", "reset", "--json").json == {"removed": [result["file"]]}
    assert not Path(result["file"]).exists() and cli("tune", "show", "--json").json == []


@pytest.mark.parametrize(
    ("other", "chosen"), [((0.97, 0.99, 1.0), "lut"), ((0.5, 0.55, 0.6), "dot")]
)
def test_a_choice_changes_only_beyond_the_spread(other: tuple[float, ...], chosen: str) -> None:
    found = tune._choice({"lut": Timed((1.0, 1.05, 1.1)), "dot": Timed(other)}, before="lut")
    assert (found["fastest"], found["chosen"]) == ("dot", chosen)
    row = {"type": "int4:g32", "m": 1, **found}
    saved = tune._saved(row)
    save_tuned(LEVEL, [{**row, "scheme": s, "median_s": t} for s, t in saved.items()], "here")
    assert choose(INT4, "int8", 1, machine_of(LEVEL)).scheme == chosen
