"""A session: the compiled functions of an artifact with their weights, ready to call."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.runtime.artifact import Artifact
from ladder.runtime.manifest import Function
from ladder.support.threads import own_threads

THREADS_VARIABLE = "TVM_NUM_THREADS"
LARGE = 1 << 20  # bytes of a buffer; smaller ones are not worth pages of their own


def load_tvm() -> Any:
    """TVM's runtime, or TVM with its compiler if the process has already loaded that."""
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
    call only writes what changed.
    """

    def __init__(self, artifact: Artifact) -> None:
        tvm = load_tvm()
        from tvm.runtime.vm import VirtualMachine

        self.artifact = artifact
        self._tvm = tvm
        self._vm = VirtualMachine(_loaded(artifact.library), tvm.cpu())
        self._tensors = {name: _shared(tvm, a) for name, a in artifact.tensors().items()}
        self._functions = {f.name: _Function(self, f) for f in artifact.facts.functions}

    def function(self, name: str) -> _Function:
        """A compiled function by name (``main``, or ``decode`` and ``prefill``)."""
        return self._functions[name]

    def has_function(self, name: str) -> bool:
        return name in self._functions

    def run(self, feeds: Mapping[str, np.ndarray], name: str = "main") -> dict[str, np.ndarray]:
        """Call with inputs by name; returns outputs by name."""
        function = self.function(name)
        function.check(feeds)
        for key, array in feeds.items():
            function.inputs[key][...] = array
        return dict(zip(function.outputs, function.call(), strict=True))

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

        self._vm.set_instrument(self._tvm.runtime.convert(instrument))
        try:
            for _ in range(runs):
                self.function(name).call()
        finally:
            self._vm.set_instrument(self._tvm.runtime.convert(lambda *_: 0))
        return {symbol: total / runs for symbol, total in spent.items()}


class _Function:
    """One compiled function with its buffers."""

    def __init__(self, session: Session, function: Function) -> None:
        self.name, self.outputs = function.name, function.outputs
        self._function, self._session = function, session
        self.inputs: dict[str, np.ndarray] = {}
        self._bound = False

    def bind(self, shared: Mapping[str, np.ndarray] | None = None) -> None:
        """Create a buffer for every input (those in ``shared`` are used in place); bind weights."""
        given = shared or {}
        for entry in self._function.inputs:
            known = given.get(entry.name)
            self.inputs[entry.name] = (
                aligned_zeros(entry.shape, entry.dtype) if known is None else known
            )
        session = self._session
        arguments = [_shared(session._tvm, a) for a in self.inputs.values()]
        weights = [session._tensors[name] for name in self._function.weights]
        session._vm.set_input(self.name, *arguments, *weights)
        self._bound = True

    def call(self) -> list[np.ndarray]:
        """Run on the input buffers; the outputs are views, valid until the next call."""
        if not self._bound:
            self.bind()
        self._session._vm.invoke_stateful(self.name)
        return [np.from_dlpack(o) for o in self._session._vm.get_outputs(self.name)]

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Refuse feeds with a wrong name or shape."""
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


def _loaded(library: Path) -> Any:
    """The library, loaded through a new path.

    The system's loader identifies libraries by path, and would return the old one after an artifact
    was compiled again. (``tvm.runtime.load_module`` would resolve the link first.)
    """
    import tvm_ffi

    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        link = Path(folder) / library.name
        link.symlink_to(library.resolve())
        return tvm_ffi.load_module(str(link))


def aligned_zeros(shape: tuple[int, ...], dtype: str | np.dtype[Any]) -> np.ndarray:
    """Zeros at a 64-byte boundary, as compiled code expects its buffers."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size >= LARGE:
        return np.frombuffer(_on_demand(size), kind).reshape(shape)
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(kind).reshape(shape)


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
