"""A session: the compiled functions of an artifact with their weights, ready to call.

Calls of several threads are made one after another. A process that was forked from one that has
called TVM cannot call it: the threads of TVM's pool do not exist in it, and are waited for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError, one_line
from ladder.runtime.artifact import Artifact
from ladder.runtime.manifest import Function as Signature
from ladder.runtime.manifest import Input
from ladder.support.threads import check_threads, own_threads

THREADS_VARIABLE = "TVM_NUM_THREADS"
LARGE = 1 << 20  # bytes of a buffer; smaller ones are not worth pages of their own


class _Caller:
    """The process that has called TVM: this one, or one that this one was forked from."""

    process: int | None = None


def _check_process() -> None:
    """Refuse to call TVM in a forked process, where the call would never return."""
    own = os.getpid()
    if _Caller.process not in (None, own):
        raise LadderError(
            f"process {own} was forked from process {_Caller.process}, which has used a model, so "
            "it cannot use one: start it with multiprocessing.get_context('spawn')"
        )
    _Caller.process = own


def load_tvm() -> Any:
    """TVM's runtime, or TVM with its compiler if the process has already loaded that."""
    check_threads(THREADS_VARIABLE, threads())
    if "tvm" not in sys.modules:
        os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
        os.environ.setdefault(THREADS_VARIABLE, str(threads()))
        with _without_torch():
            import tvm_ffi  # noqa: F401
    import tvm

    return tvm


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """tvm_ffi imports torch wherever it is installed; running an artifact does not need it."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes its import fail
    try:
        yield
    finally:
        del sys.modules["torch"]


def threads() -> int:
    """Threads that kernels use: as many as requested, else the cores this process may run on."""
    asked = os.environ.get(THREADS_VARIABLE, "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return own_threads()


class Session:
    """Calls an artifact's functions with numpy arrays.

    Weights are memory-mapped and never copied. Inputs have buffers that stay in place, so that a
    call only writes what changed. ``lock`` is held by a thread while it uses them.
    """

    def __init__(self, artifact: Artifact) -> None:
        tvm = load_tvm()
        from tvm.runtime.vm import VirtualMachine

        self.artifact = artifact
        self.lock = threading.RLock()
        self._tvm = tvm
        with _refusing(artifact):
            library = _loaded(artifact.library, artifact.level.name)
            self._vm = VirtualMachine(library, tvm.cpu())
        self._tensors = {name: _shared(tvm, a) for name, a in artifact.tensors().items()}
        self._functions = {f.name: Function(self, f) for f in artifact.facts.functions}

    def function(self, name: str) -> Function:
        """A compiled function by name (``main``, or ``decode`` and ``prefill``)."""
        if name not in self._functions:
            known = ", ".join(self._functions)
            raise LadderError(f"{self.artifact.folder}: no function '{name}'; it has: {known}")
        return self._functions[name]

    def has_function(self, name: str) -> bool:
        return name in self._functions

    def run(self, feeds: Mapping[str, np.ndarray], name: str = "main") -> dict[str, np.ndarray]:
        """Call with inputs by name; returns outputs by name. Several threads may call it."""
        function = self.function(name)
        with self.lock:
            function.check(feeds)
            for key, array in feeds.items():
                function.inputs[key][...] = array
            outputs = [output.copy() for output in function.call()]
        return dict(zip(function.outputs, outputs, strict=True))

    def profile(self, name: str, runs: int) -> dict[str, float]:
        """Seconds of each kernel in a call of ``name``, summed over its uses, mean of ``runs``."""
        started = [0.0]
        spent: dict[str, float] = {}

        def instrument(_func: Any, symbol: str, before: bool, _ret: Any, *_args: Any) -> int:
            now = time.perf_counter()
            if not before:
                spent[symbol] = spent.get(symbol, 0.0) + now - started[0]
            started[0] = time.perf_counter()
            return 0

        with self.lock:
            self._vm.set_instrument(self._tvm.runtime.convert(instrument))
            try:
                for _ in range(runs):
                    self.function(name).call()
            finally:
                self._vm.set_instrument(self._tvm.runtime.convert(lambda *_: 0))
        return {symbol: total / runs for symbol, total in spent.items()}


class Function:
    """One compiled function with its buffers."""

    def __init__(self, session: Session, function: Signature) -> None:
        self.name, self.outputs = function.name, function.outputs
        self._function, self._session = function, session
        self.inputs: dict[str, np.ndarray] = {}
        self._bound = False

    def bind(self, shared: Mapping[str, np.ndarray] | None = None) -> None:
        """Create a buffer for every input (those in ``shared`` are used in place); bind weights."""
        given = shared or {}
        for entry in self._function.inputs:
            known = given.get(entry.name)
            self.inputs[entry.name] = _buffer(entry) if known is None else known
        session = self._session
        arguments = [_shared(session._tvm, a) for a in self.inputs.values()]
        weights = [session._tensors[name] for name in self._function.weights]
        with _refusing(session.artifact):
            session._vm.set_input(self.name, *arguments, *weights)
        self._bound = True

    def call(self) -> list[np.ndarray]:
        """Run on the input buffers; the outputs are views, valid until the next call.

        The caller holds the session's lock.
        """
        _check_process()
        if not self._bound:
            self.bind()
        with _refusing(self._session.artifact):
            self._invoke()
            found = [np.from_dlpack(o) for o in self._session._vm.get_outputs(self.name)]
        if len(found) != len(self.outputs):
            raise LadderError(
                f"function '{self.name}' returned {len(found)} outputs, not {len(self.outputs)}; "
                "compile the model again"
            )
        return found

    def _invoke(self) -> None:
        try:
            self._session._vm.invoke_stateful(self.name)
        except RuntimeError as error:  # above all: an index outside its axis
            raise LadderError(
                f"{self._session.artifact.folder}: {self.name} failed: {one_line(error)}"
            ) from error

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Refuse feeds with a wrong name or shape, and numbers that an input cannot hold."""
        if not self._bound:
            self.bind()
        for name in feeds:
            if name not in self.inputs:
                raise LadderError(f"no input '{name}'; the model has: {', '.join(self.inputs)}")
        for name, buffer in self.inputs.items():
            if name not in feeds:
                raise LadderError(f"input '{name}' {list(buffer.shape)} is missing")
            if tuple(feeds[name].shape) != buffer.shape:
                raise LadderError(
                    f"input '{name}' has the shape {list(feeds[name].shape)}; "
                    f"the artifact was compiled for {list(buffer.shape)}"
                )
            if not _fits(feeds[name], buffer.dtype):
                raise LadderError(
                    f"input '{name}' is {buffer.dtype}, which cannot hold the {feeds[name].dtype} "
                    "numbers that were given"
                )


def _fits(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether ``dtype`` holds the numbers: floats may be rounded, integers must stay the same."""
    if np.issubdtype(array.dtype, np.integer) and np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return not array.size or (limits.min <= array.min() and array.max() <= limits.max)
    return np.can_cast(array.dtype, dtype, "same_kind")


@contextlib.contextmanager
def _refusing(artifact: Artifact) -> Iterator[None]:
    """Turn what TVM says of a library that does not fit its manifest into one line."""
    try:
        yield
    except LadderError:
        raise
    except Exception as error:
        raise LadderError(
            f"{artifact.folder}: the library does not fit the manifest ({one_line(error)}); "
            "compile the model again"
        ) from error


def _loaded(library: bytes, name: str) -> Any:
    """The library, loaded from a copy in memory: the file may change after it was verified.

    The system's loader identifies libraries by path, and would return the old one after an artifact
    was compiled again, so the path is new. (``tvm.runtime.load_module`` would resolve links first.)
    """
    import tvm_ffi

    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        path = Path(folder) / f"{name}.so"
        with _in_memory(path, library):
            return tvm_ffi.load_module(str(path))


@contextlib.contextmanager
def _in_memory(path: Path, content: bytes) -> Iterator[None]:
    """A file in memory under ``path``, also where no code may be run from temporary files."""
    if not hasattr(os, "memfd_create"):  # on macOS: the folder is private, too
        path.write_bytes(content)
        yield
        return
    with open(os.memfd_create(path.name), "wb") as file:
        file.write(content)
        file.flush()
        path.symlink_to(f"/proc/self/fd/{file.fileno()}")
        yield


def _buffer(entry: Input) -> np.ndarray:
    try:
        return aligned_zeros(entry.shape, entry.dtype)
    except (MemoryError, OSError, OverflowError) as error:  # the last two are of mmap
        shape = list(entry.shape)
        raise LadderError(f"input '{entry.name}' {shape}: not enough memory") from error


def aligned_zeros(shape: tuple[int, ...], dtype: str | np.dtype[Any]) -> np.ndarray:
    """Zeros at a 64-byte boundary, as compiled code expects its buffers."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size >= LARGE:
        return np.frombuffer(_on_demand(size), kind).reshape(shape)
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:][:size].view(kind).reshape(shape)  # an empty [a:b] would begin at raw


def _on_demand(size: int) -> mmap.mmap:
    """Zeros in pages that only take memory when they are first written.

    Huge pages would take all of a context's memory for the first tokens.
    """
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _shared(tvm: Any, array: np.ndarray) -> Any:
    """A TVM tensor over the same memory."""
    return tvm.runtime.from_dlpack(array)
