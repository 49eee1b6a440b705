"""Whole commands where something goes wrong: kills, full disks, missing rights, other commands.

The target is complete or as it was before, nothing is left over, and a fault is one line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import without_stages
from small_graphs import graph, random
from unprivileged import give, run_unprivileged

from ladder.support.workplace import sweep

pytestmark = pytest.mark.kernels
CHAIN = """g (float[3, 64] x) => (float[3, 64] y) {
    a = MatMul(x, "up.weight")  b = Relu(a)  y = MatMul(b, "down.weight")
}"""
KILLS, PROCESSES = 5, 4
LADDER = [sys.executable, "-m", "ladder"]
Tree = dict[str, bytes]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = {"up.weight": random(64, 96), "down.weight": random(96, 64)}
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(graph(CHAIN, weights), path)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything that a command may write is below the test's folder."""
    folders = {"HOME": "home", "TMPDIR": "tmp", "LADDER_CACHE": "cache"}
    for name in (*folders.values(), "out"):
        (tmp_path / name).mkdir()
    places = {variable: str(tmp_path / name) for variable, name in folders.items()}
    return {**os.environ, **places, "PYTHONDONTWRITEBYTECODE": "1"}


def tree(folder: Path) -> Tree:
    """The content of every file, by path; folders are empty."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in paths}


def is_whole(file: Path) -> bool:
    """Whether ONNX Runtime loads and runs a file."""
    session = ort.InferenceSession(str(file))
    return bool(np.isfinite(session.run(None, {"x": random(3, 64)})[0]).all())


def quantizing(model: Path, out: Path, type: str = "int4:g32") -> list[str]:
    return [*LADDER, "quantize", str(model), str(out), "--type", type]


def test_killed_at_random_moments(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The file is one of the two that were written; the next command sweeps what was left."""
    out = tmp_path / "out" / "q.onnx"
    wanted = set()
    for type in ("int4:g32", "int8:row"):
        start = time.monotonic()
        subprocess.run(quantizing(model, out, type), env=environment, check=True)
        wanted.add(out.read_bytes())
    longest, moments = time.monotonic() - start, Random(0)
    for number in range(KILLS):
        type = "int8:row" if number % 2 else "int4:g32"
        process = subprocess.Popen(quantizing(model, out, type), env=environment)
        time.sleep(longest * moments.uniform(0.5, 1))
        process.kill()
        process.wait()
        assert out.read_bytes() in wanted
    subprocess.run(quantizing(model, out), env=environment, check=True)
    sweep(out.parent)
    assert list(tree(out.parent)) == ["q.onnx"] and is_whole(out)


def test_processes_with_one_cache_and_one_target(
    model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """All begin with an empty cache; each succeeds, and the target is complete."""
    out = tmp_path / "out"
    command = [*LADDER, "compile", str(model), "-o", str(out), "--type", "int4:g32", "--json"]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for process in running:
        text, _ = process.communicate()
        assert process.returncode == 0 and json.loads(text)["sites"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("cache", "home", "in", "out", "tmp"),
    ]
    assert len(list((tmp_path / "cache" / "artifacts").iterdir())) == 1
    assert tree(tmp_path / "tmp") == {} == tree(tmp_path / "home")
    np.savez(tmp_path / "x.npz", x=random(3, 64))
    ran = [*LADDER, "run", str(out), "--input", str(tmp_path / "x.npz")]
    subprocess.run(ran, env=environment, check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 16 kB; None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(
    model: Path, tmp_path: Path, environment: dict[str, str], small_disk: Path | None
) -> None:
    """Where no small disk can be mounted, the limit of a process on its files stands for it."""
    folder = small_disk or tmp_path / "limited"
    folder.mkdir(exist_ok=True)
    (folder / "q.onnx").write_text("as before")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    big = tmp_path / "in" / "big.onnx"
    onnx.save(graph(CHAIN, {"up.weight": random(64, 900), "down.weight": random(900, 64)}), big)
    done = subprocess.run(
        quantizing(big, folder / "q.onnx"), env=environment, capture_output=True, text=True,
        preexec_fn=None if small_disk else limit,
    )  # fmt: skip
    reason = "the disk is full" if small_disk else "cannot be written (File too large)"
    assert done.returncode == 2 and without_stages(done.stderr).count("\n") == 1, done.stderr
    assert f"q.onnx: {reason}; nothing was written" in done.stderr
    assert tree(folder) == {"q.onnx": b"as before"}


IMPORTS = """
import html, sys
from pathlib import Path
from ladder.cli import main
sys.argv, words = ["ladder", "quantize", *sys.argv[1:3]], sys.argv[3:]
try:
    main()
except SystemExit as exit:
    assert not exit.code
"""
COMMAND = "sys.argv = ['ladder', 'quantize', *words]\nmain()\n"


def test_a_user_without_rights(model: Path, tmp_path: Path) -> None:
    """A place that may not be written.

    The same command runs before the rights are given up, so that everything is imported.
    """
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    give(tmp_path)
    words = (model, tmp_path / "first.onnx", model, out / "q.onnx")
    done = run_unprivileged(IMPORTS, COMMAND, *words)
    assert done.returncode == 2 and without_stages(done.stderr).count("\n") == 1, done.stderr
    assert "q.onnx: cannot be written (Permission denied)" in done.stderr
    assert list(tree(out)) == []


HOOK = """
import os, sys
allowed = tuple(sys.argv[1].split(os.pathsep)) + ("/dev/", "/proc/self/")
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
changing = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.truncate", "os.utime")
def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & writing:
            return
    elif event in changing and not (event == "os.mkdir" and os.path.isdir(arguments[0])):
        path = arguments[1] if event in ("os.rename", "os.symlink", "os.link") else arguments[0]
    else:
        return
    if isinstance(path, (str, bytes)) and os.path.isabs(path):
        name = os.path.realpath(os.path.dirname(os.fsdecode(path))) + "/"
        if not name.startswith(allowed):
            print("OUTSIDE", event, os.fsdecode(path), file=sys.stderr)
sys.addaudithook(watch)
from ladder.cli import main
for words in [line.split() for line in sys.stdin.read().splitlines()]:
    sys.argv = ["ladder", *words]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code, (words, exit.code)
"""


def test_nothing_else_is_written(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Only the targets, the cache and the folder for temporary files, and nothing stays there."""
    np.savez(tmp_path / "in" / "x.npz", x=random(3, 64))
    np.savez(tmp_path / "in" / "samples.npz", x=random(5, 3, 64))
    before = tree(tmp_path / "in")
    out, given = tmp_path / "out", tmp_path / "in"
    commands = f"""compile {model} -o {out}/art --type int4:g32
quantize {model} {out}/q.onnx --type int8:row
plan {model} -o {out}/plan.toml --bpw 5 --types int4:g32,int8:row --calib {given}/samples.npz
compile {model} -o {out}/planned --plan {out}/plan.toml --rounding gptq --calib {given}/samples.npz
opt {model} -p clean-up --dump-ir {out}/ir -o {out}/opt.onnx
run {out}/art --input {given}/x.npz -o {out}/y.npz
report {out}/art
cache show
cache prune --older 1d"""
    places = [out, tmp_path / "cache", tmp_path / "tmp"]
    roots = os.pathsep.join(f"{place}/" for place in places)
    done = subprocess.run(
        [sys.executable, "-c", HOOK, roots], input=commands, env=environment, text=True,
        capture_output=True, cwd=tmp_path / "home",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "OUTSIDE" not in done.stderr, done.stderr
    assert tree(tmp_path / "in") == before
    assert tree(tmp_path / "home") == {} == tree(tmp_path / "tmp")
    assert sorted(path.name for path in out.iterdir()) == [
        *("art", "ir", "opt.onnx", "plan.toml", "planned", "q.onnx", "y.npz"),
    ]


def test_an_interrupted_command(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Ctrl-C: nothing is written, and nothing is left over."""
    process = subprocess.Popen(
        quantizing(model, tmp_path / "out" / "q.onnx"), env=environment, stderr=subprocess.PIPE
    )
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0 and tree(tmp_path / "tmp") == {}
    assert tree(tmp_path / "out") == {}
