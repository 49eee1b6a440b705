"""Indices and positions in compiled graphs: counted from the end, checked, of any integer type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import Arrays, assert_same, graph, random, stock

import ladder
import ladder.runtime
from ladder.errors import LadderError
from ladder.runtime.session import Session

pytestmark = pytest.mark.kernels
ROWS, WIDTH = 128, 64
# Every operator reads or writes x [4, 5] at indices of its own.
INDEXED = """g (float[4, 5] x, int32[3] rows, int64[4, 2] cells, int64[3, 2] points,
    float[4, 2] u, float[3] v) => (float[3, 5] a, float[4, 2] b, float[3] c, float[4, 5] d,
    float[4, 5] e, float[4] f) {
    a = Gather (x, rows)
    b = GatherElements <axis = 1> (x, cells)
    c = GatherND (x, points)
    f = Gather <axis = 1> (x, last)
    d = ScatterElements <axis = 1, reduction = "add"> (x, cells, u)
    e = ScatterND <reduction = "add"> (x, points, v)
}"""


def feeds(**changed: np.ndarray) -> Arrays:
    given = {
        "x": random(4, 5),
        "rows": np.array([-1, -4, 3], np.int32),
        "cells": np.array([[0, -1], [-5, 4], [2, -2], [1, 1]]),
        "points": np.array([[-4, -5], [3, 4], [0, -1]]),
        "u": random(4, 2),
        "v": random(3),
    }
    return {**given, **changed}


def model() -> ir.Model:
    made: ir.Model = ir.from_proto(graph(INDEXED, {"last": np.array(-1)}))
    return made


def test_indices_count_from_the_end() -> None:
    assert_same(run_compiled(model(), HERE[-1], feeds()).outputs, stock(model(), feeds()))


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("rows", 4, "Gather '.': an index is outside an axis of 4"),
        ("rows", -5, "Gather '.': an index is outside an axis of 4"),
        ("cells", 1 << 40, "Elements '.': an index is outside an axis of 5"),
        ("points", 5, "ND '.': an index is outside an axis of 4 x 5"),
    ],
)
def test_an_index_outside_its_axis_fails_the_call(name: str, index: int, message: str) -> None:
    outside = np.array(feeds()[name])
    outside[-1] = index
    with pytest.raises(RuntimeError, match=message):
        run_compiled(model(), HERE[-1], feeds(**{name: outside}))


def test_a_constant_index_outside_its_axis_is_refused() -> None:
    text = "g (float[4, 5] x) => (float[1, 5] y) { y = Gather (x, rows) }"
    made = ir.from_proto(graph(text, {"rows": np.array([4])}))
    with pytest.raises(LadderError, match=r"Gather '.': an index is outside an axis of 4"):
        run_compiled(made, HERE[-1], {"x": random(4, 5)})


CACHE = """g (float[1, 2, 8, 4] cache, float[1, 2, 3, 4] rows, int64[1] start)
    => (float[1, 2, 8, 4] y) { y = TensorScatter (cache, rows, start) }"""


@pytest.mark.parametrize("start", [-1, 6])
def test_a_cache_is_not_written_outside(start: int) -> None:
    made = ir.from_proto(graph(CACHE, {}, opset=24))
    given = {"cache": random(1, 2, 8, 4), "rows": random(1, 2, 3, 4), "start": np.array([start])}
    with pytest.raises(RuntimeError, match="TensorScatter 'y': an index is outside an axis of 6"):
        run_compiled(made, HERE[-1], given)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of a table that is read with int32 indices, next to its ONNX file."""
    folder = tmp_path_factory.mktemp("embedding")
    text = f"g (int32[1, 3] ids) => (float[1, 3, {WIDTH}] y) {{ [emb] y = Gather (E, ids) }}"
    onnx.save(graph(text, {"E": random(ROWS, WIDTH)}), folder / "model.onnx")
    ladder.compile(folder / "model.onnx", folder / "art", type="int8:row")
    return folder


def session(folder: Path) -> Session:
    loaded = ladder.runtime.load(folder / "art")
    assert isinstance(loaded, Session)
    return loaded


def test_low_bit_rows_count_from_the_end(embedding: Path) -> None:
    ids = np.array([[-1, -ROWS, 3]])
    got = session(embedding).run({"ids": ids})["y"]
    assert np.abs(got - random(ROWS, WIDTH)[ids]).max() < 0.03


def test_a_row_outside_a_low_bit_table_is_refused(embedding: Path) -> None:
    with pytest.raises(LadderError, match=r"art: main failed: .*Gather 'emb': an index is outside"):
        session(embedding).run({"ids": np.array([[1, ROWS, 0]])})


@pytest.mark.parametrize("ids", [np.array([[0, 0, 1 << 40]]), np.array([[0, 0, 0.5]])])
def test_an_input_that_cannot_hold_the_numbers_is_refused(embedding: Path, ids: np.ndarray) -> None:
    with pytest.raises(LadderError, match="input 'ids' is int32, which cannot hold the"):
        session(embedding).run({"ids": ids})
