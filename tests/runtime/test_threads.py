"""Several threads on one model, forked processes, and numbers of threads that are none."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import graph, random

import ladder
import ladder.runtime
from ladder.errors import LadderError
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.session import Session

pytestmark = [pytest.mark.models, pytest.mark.kernels]
PRODUCT = "g (float[8, 64] x) => (float[8, 96] y) { y = MatMul(x, w) }"
THREADS, CALLS = 4, 300


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("product")
    onnx.save(graph(PRODUCT, {"w": random(64, 96)}), folder / "model.onnx")
    ladder.compile(folder / "model.onnx", folder / "out", type="int4:g32")
    found = ladder.runtime.load(folder / "out")
    assert isinstance(found, Session)
    return found


def test_threads_get_the_outputs_of_their_own_inputs(session: Session) -> None:
    inputs = [random(8, 64, seed=i) for i in range(THREADS)]
    wanted = [session.run({"x": x})["y"] for x in inputs]
    together = threading.Barrier(THREADS)

    def calls(number: int) -> None:
        together.wait()
        for _ in range(CALLS):
            got = session.run({"x": inputs[number]})["y"]
            np.testing.assert_array_equal(got, wanted[number])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(calls, range(THREADS)))


@pytest.fixture
def model(tiny_artifact: Path) -> LanguageModel:
    found = ladder.runtime.load(tiny_artifact)
    assert isinstance(found, LanguageModel)
    return found


def test_threads_add_to_one_text(model: LanguageModel) -> None:
    """Each call is whole: the states hold every token, and no token twice."""
    together = threading.Barrier(THREADS)

    def steps(number: int) -> None:
        together.wait()
        for token in range(20):
            model.step(token + number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(steps, range(THREADS)))
    assert model.position == 20 * THREADS


def test_one_model_a_thread(tiny_artifact: Path, model: LanguageModel) -> None:
    wanted = []
    for i in range(THREADS):
        model.reset()
        wanted.append(list(model.stream([i, 2, 3], 20)))

    def generated(i: int) -> list[int]:
        own = ladder.runtime.load(tiny_artifact)
        assert isinstance(own, LanguageModel)
        return list(own.stream([i, 2, 3], 20))

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(generated, range(THREADS))) == wanted


def test_a_text_that_another_changes_is_not_continued(model: LanguageModel) -> None:
    stream = model.stream([1, 2, 3], 20)
    next(stream)
    other = threading.Thread(target=model.step, args=(5,))
    other.start()
    other.join()
    with pytest.raises(LadderError, match=r"held 3 tokens and now holds 4: .* for each thread"):
        next(stream)


def in_a_fork(call: Callable[[], object]) -> str:
    """What ``call`` says in a forked process, within ten seconds."""
    receive, send = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            call()
            send.send("done")
        except BaseException as error:
            send.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    said = receive.recv() if receive.poll(10) else "it hangs"
    os.kill(child, 9)
    os.waitpid(child, 0)
    return str(said)


def test_a_forked_process_is_refused(model: LanguageModel, tiny_artifact: Path) -> None:
    model.step(1)

    def another() -> None:
        found = ladder.runtime.load(tiny_artifact)
        assert isinstance(found, LanguageModel)
        found.step(1)

    for call in (lambda: model.step(2), another):
        said = in_a_fork(call)
        assert said.startswith("LadderError: process ") and "\n" not in said
        assert f"was forked from process {os.getpid()}, which has used a model" in said
    model.step(2)
    assert model.position == 2


def test_numbers_of_threads(
    cli: Callable[..., object], tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (100_000, -1):
        ran = str(cli("run", tiny_artifact, "--prompt", "a", "--threads", number))
        assert f"--threads {number}: give a number up to 1024, or 0 for all cores" in ran
    monkeypatch.setenv("TVM_NUM_THREADS", "100000")
    with pytest.raises(LadderError, match="TVM_NUM_THREADS 100000: give a number up to 1024"):
        ladder.runtime.load(tiny_artifact)
