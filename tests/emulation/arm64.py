"""An arm64 Linux with Python and TVM's runtime under qemu-user: only what an artifact needs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from emulation.apt import HOME, Missing, locked, run, tool, unpacked
from ladder.support.files import new_folder

ARCH = "arm64"
DEBS = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1", "libssl3", "zlib1g")
SERVER = """
import runpy, sys
sys.executable = sys.argv.pop(1)
runpy.run_module("tvm.exec.rpc_server", run_name="__main__", alter_sys=True)
"""
RPC = ("cloudpickle",)  # what TVM's RPC server needs in addition
WHEELS = ("apache-tvm", "apache-tvm-ffi", "ml_dtypes", "numpy", "typing_extensions")
PLATFORMS = tuple(
    f"manylinux{glibc}_aarch64" for glibc in ("2014", "_2_17", "_2_27", "_2_28", "_2_34")
)
# qemu's processors; they lack dot products, matrix products, or nothing that we use.
CPUS = {"armv8.0": "cortex-a72", "armv8.2": "cortex-a76", "armv8.6": "max"}


@cache
def qemu() -> Path:
    """qemu-user for aarch64."""
    return tool("qemu-aarch64", "qemu-aarch64-static", package="qemu-user-static")


@cache
def root() -> Path:
    """The files of a small Debian for arm64, with Python."""
    return unpacked(DEBS, ARCH)


@cache
def python() -> Path:
    """The Python of that system."""
    found = sorted((root() / "usr" / "bin").glob("python3.*"))
    if not found:
        raise Missing(f"{root()}: no Python in it; remove the folder and run the tests again")
    return found[0]


@cache
def site(packages: Sequence[str] = WHEELS) -> Path:
    """A folder of packages, as wheels for that Python: what an artifact's runtime needs."""
    number = python().name.removeprefix("python")
    wanted = [f"{name}=={version(name)}" for name in packages]
    place = HOME / "-".join(["arm64-site", number, *(f"{n}-{version(n)}" for n in packages)])
    with locked(place.name):
        if not place.exists():
            with new_folder(place) as folder:
                command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                command += ["--only-binary=:all:", "--target", str(folder)]
                command += [word for name in PLATFORMS for word in ("--platform", name)]
                command += ["--implementation", "cp", "--python-version", number, *wanted]
                run(command, f"pip cannot fetch {' '.join(wanted)} for aarch64")
    return place


def command(cpu: str, words: Sequence[str]) -> list[str]:
    """The command that runs Python with ``words`` on an emulated ``cpu`` (a key of ``CPUS``)."""
    return [str(qemu()), "-cpu", CPUS[cpu], "-L", str(root()), str(python()), *words]


def environment(*paths: Path, threads: int = 1) -> dict[str, str]:
    """Its environment; ``paths`` are searched for modules in addition to its packages."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(path) for path in (*paths, site())),
        "PYTHONHOME": str(root() / "usr"),
        "TVM_USE_RUNTIME_LIB": "1",
        "TVM_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def run_python(cpu: str, words: Sequence[str], *paths: Path, threads: int = 1) -> str:
    """Run that Python; returns what it prints."""
    env = environment(*paths, threads=threads)
    done = subprocess.run(command(cpu, words), capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{cpu}: exit {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


def _launcher(cpu: str) -> Path:
    """A program of this machine that runs that Python, because the server starts a second one."""
    path = HOME / f"python-{cpu}"
    with locked(path.name):
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command(cpu, []))} "$@"\n')
        path.chmod(0o755)
    return path


@contextmanager
def rpc_server(cpu: str, port: int) -> Iterator[str]:
    """TVM's RPC server on an emulated ``cpu``; gives its address."""
    words = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
    words = ["-c", SERVER, str(_launcher(cpu)), *words]
    with subprocess.Popen(
        command(cpu, words),
        env=environment(site(RPC)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        try:
            said = []
            for line in server.stdout:
                said.append(line)
                if "bind to" in line:
                    break
            else:
                raise AssertionError(f"the RPC server ended: {''.join(said)[-2000:]}")
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
