"""Run an ONNX file and what was made of it in ONNX Runtime, in turns: time, size, error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from ladder.calibration.requested_data import data_of
from ladder.errors import LadderError, one_line
from ladder.frontend.onnx_file import load_onnx
from ladder.frontend.types import Source
from ladder.ir.shapes import static_shape, with_sizes
from ladder.options.requests import QuantizeOptions
from ladder.pipeline.float_check.random_inputs import random_runs
from ladder.reference import Reference
from ladder.support.progress import track

Arrays = Mapping[str, np.ndarray]
ROUNDS = 25
SECONDS = 10.0  # of all rounds; at least LEAST of them run
LEAST = 3
TOKENS = 128  # the size of open dimensions other than the first, which is a batch of 1
SIZES = (1, 2, 8, 16, 64)  # where that does not run: of every open dimension
OTHERS = 1.3  # wall time over CPU time of one thread, from which on others used the processor


@dataclass
class Timed:
    """One file: the times of its calls in seconds, and its error against the first file."""

    file: Path
    session: ort.InferenceSession
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    error: float = 0.0

    def call(self, feeds: Arrays) -> list[np.ndarray]:
        wall, cpu = time.perf_counter(), time.process_time()
        outputs: list[np.ndarray] = self.session.run(None, dict(feeds))
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return outputs

    def row(self, size: int) -> dict[str, float]:
        """Medians in ms, bytes on disk, and the error."""
        return {
            "ms": 1e3 * statistics.median(self.wall),
            "cpu_ms": 1e3 * statistics.median(self.cpu),
            "size_bytes": size,
            "error": self.error,
        }


def bench_files(
    files: Mapping[Path, int], feeds: Sequence[Arrays], threads: int
) -> list[dict[str, float]]:
    """A row for each of ``files`` (path -> bytes); errors are relative to the first file.

    The first calls, which ONNX Runtime prepares itself in, give the errors and are not timed.
    """
    timed = [Timed(file, session_of(file, threads)) for file in files]
    _put_errors(timed, feeds)
    start = time.perf_counter()
    for turn in track(list(range(ROUNDS)), "run both files in ONNX Runtime"):
        if turn >= LEAST and time.perf_counter() - start > SECONDS:
            break
        for one in timed:
            one.call(feeds[turn % len(feeds)])
    return [one.row(size) for one, size in zip(timed, files.values(), strict=True)]


def session_of(file: Path, threads: int) -> ort.InferenceSession:
    """A session whose idle threads take no CPU time from the file that runs next."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _put_errors(timed: Sequence[Timed], feeds: Sequence[Arrays]) -> None:
    apart, whole = np.zeros(len(timed)), 0.0
    for one in feeds:
        wanted, *others = ([_flat(y) for y in each.call(one)] for each in timed)
        whole += sum(float(y @ y) for y in wanted)
        for i, got in enumerate(others, 1):
            apart[i] += sum(float((a - b) @ (a - b)) for a, b in zip(got, wanted, strict=True))
    for each, sum_of_squares in zip(timed, apart, strict=True):
        each.error = float(np.sqrt(sum_of_squares / whole)) if whole else 0.0
        each.wall.clear()
        each.cpu.clear()


def _flat(output: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(output, np.float64)).ravel()


def busy(rows: Sequence[Mapping[str, float]], threads: int) -> bool:
    """Whether other processes took so much of the processor that times say little."""
    return threads == 1 and any(row["ms"] > OTHERS * row["cpu_ms"] for row in rows)


def bench_feeds(model: ir.Model, file: Path) -> list[Arrays]:
    """Random inputs for the model in ``file``: one sample, of 128 tokens if its length is open."""
    original, failure = Reference(file), None
    for sized in (_sized(model), *(with_sizes(model, size) for size in SIZES)):
        try:
            return [run.feeds for run in random_runs(sized, original.run, {})[:1]]
        except Exception as error:  # whatever ONNX Runtime says of such inputs
            failure = failure or error
    raise LadderError(
        f"{file}: --bench: ONNX Runtime does not run it on random inputs "
        f"({one_line(failure or Exception())}); give samples with --calib FILE.npz"
    )


def _sized(model: ir.Model) -> ir.Model:
    """A copy whose inputs have a batch of 1 and TOKENS for every other open dimension."""
    sized = model.clone()
    for value in sized.graph.inputs:
        if value.shape is None or static_shape(value) is not None:
            continue
        dims = [
            d if isinstance(d, int) else (TOKENS if i else 1) for i, d in enumerate(value.shape)
        ]
        value.shape = ir.Shape(dims)
    return sized


def benched(source: Source, options: QuantizeOptions, files: dict[Path, int]) -> dict[str, Any]:
    """What ``--bench`` measured: a row for the original and one for the result, and on what."""
    feeds: Sequence[Arrays]
    if options.calib is not None:
        feeds, inputs = data_of(source, options).feeds, str(options.calib)
    else:
        original = Path(source.origin)
        feeds, inputs = bench_feeds(load_onnx(original).model, original), "random numbers"
    rows = bench_files(files, feeds, options.threads)
    return {
        "inputs": inputs,
        "shapes": {name: list(np.shape(array)) for name, array in feeds[0].items()},
        "threads": options.threads,
        "busy": busy(rows, options.threads),
        **dict(zip(("original", "result"), rows, strict=True)),
    }
