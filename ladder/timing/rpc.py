"""A device that runs TVM's RPC server: checks the bits of its kernels and times them.

The library of kernels is compiled and linked on this machine for the device's level, then sent. The
device needs only TVM's runtime: ``python -m tvm.exec.rpc_server``.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import ARM_FLAGS, LEVELS, Level, native_level
from ladder.ir.activation import table_mode
from ladder.ir.dtype import DType
from ladder.passes.kernel_choice import choose
from ladder.timing.cost_tables import machine_of
from ladder.timing.product import compiled, packed_weights, packing_of, random_activations

SERVER = "python -m tvm.exec.rpc_server --host 0.0.0.0 --port 9090"
ROUNDS = 5
FLUSHED = 64 << 20  # bytes written between rounds to flush the weights from caches
CHECKED = ((1, 70, 83), (5, 33, 209))  # M, N, K for comparing bits: no multiples of tile or block
ASK = "arm_hardware"  # the function that reports the features of the device's CPU
Way = tuple[DType, str, str]  # type, activation mode, scheme


def way_of(type: str, m: int, activation: str, level: Level) -> Way:
    """The kernel that a compilation chooses for a product."""
    dtype = DType.parse(type)
    chosen = choose(dtype, activation, m, machine_of(level.name))
    return dtype, chosen.activation, chosen.scheme


@dataclass
class Remote:
    """A connected device with kernels of some products."""

    where: str
    level: Level
    session: Any
    library: Any
    threads: int

    @staticmethod
    def connect(where: str, level: Level, ways: set[Way], threads: int = 0) -> Remote:
        """Send the kernels to the server at ``where`` (HOST:PORT); 0 threads means all."""
        session = _session(where)
        _refuse_other_cpu(session, where, level)
        library = _sent(session, {_name(way, level): _kernel(way, level) for way in ways}, level)
        if threads:
            session.get_function("runtime.config_threadpool")(1, threads)
        count = int(session.get_function("runtime.NumThreads")())
        return Remote(where, level, session, library, threads or count)

    def close(self) -> None:
        """Free the server for others: TVM ends a session when nothing refers to it."""
        self.session = self.library = None
        gc.collect()

    def check(self, way: Way) -> int:
        """Compare the bits of a product with this machine's; return the number of outputs."""
        compared, here = 0, native_level()
        for m, n, k in CHECKED:
            operands = _operands(way, m, n, k)
            near, far = np.zeros((m, n), np.float32), self._zeros(m, n)
            kernel = compiled(_packing(way), way[1], way[2], here.name)["main"]
            self._run(way, [*map(self._tensor, operands), far])
            near = _called(kernel, operands, near)
            if not np.array_equal(near, far.numpy()):
                raise LadderError(
                    f"--rpc {self.where}: {_name(way, self.level)} gives other bits there than "
                    f"{here.name} here ({m}x{n}x{k}): do not use this device, and report the error"
                )
            compared += m * n
        return compared

    def seconds(self, way: Way, m: int, n: int, k: int) -> float:
        """Median seconds of a product on the device, with weights that no cache holds."""
        operands = [*map(self._tensor, _operands(way, m, n, k)), self._zeros(m, n)]
        name = _name(way, self.level)
        self._run(way, operands)
        timed = self.library.time_evaluator(
            name, self.session.cpu(), number=1, repeat=ROUNDS, cache_flush_bytes=FLUSHED
        )
        return float(statistics.median(timed(*operands).results))

    def _run(self, way: Way, operands: list[Any]) -> None:
        self.library[_name(way, self.level)](*operands)

    def _tensor(self, array: np.ndarray) -> Any:
        import tvm

        return tvm.runtime.tensor(array, self.session.cpu())

    def _zeros(self, *shape: int) -> Any:
        return self._tensor(np.zeros(shape, np.float32))


def _session(where: str) -> Any:
    host, _, port = where.rpartition(":")
    if not host or not port.isdigit():
        raise LadderError(f"--rpc '{where}': write HOST:PORT, for example 192.168.1.20:9090")
    from tvm import rpc

    try:
        return rpc.connect(host, int(port))
    except Exception as error:  # TVM has no specific type for this error
        raise LadderError(
            f"--rpc {where}: no TVM RPC server answers there; start one on the device: {SERVER}"
        ) from error


def _refuse_other_cpu(session: Any, where: str, level: Level) -> None:
    """Refuse a level that the CPU lacks, because a missing instruction would end the server."""
    if level.arch != "arm64" or level.system != "linux":
        return
    words = sorted({word for word, _ in ARM_FLAGS.values()})
    module = _sent(session, {ASK: _hardware(words)}, LEVELS["arm64"])
    import tvm

    bits = tvm.runtime.tensor(np.zeros(len(words), np.uint64), session.cpu())
    module[ASK](bits)
    has = dict(zip(words, bits.numpy(), strict=True))
    lacking = [
        name
        for name in sorted(level.flags)
        if not int(has[ARM_FLAGS[name][0]]) >> ARM_FLAGS[name][1] & 1
    ]
    if lacking:
        raise LadderError(
            f"--target {level.name}: the CPU at {where} lacks {', '.join(lacking)}; "
            "see 'ladder targets' for one that needs less"
        )


def _hardware(words: list[int]) -> Any:
    """A function that asks the device's C library for the features of its CPU."""
    from tvm.script import tirx as T

    count = len(words)

    @T.prim_func  # type: ignore[untyped-decorator]
    def ask(out_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": ASK})
        out = T.match_buffer(out_, (count,), "uint64")
        out[0] = T.call_extern("uint64", "getauxval", T.uint64(words[0]))
        out[1] = T.call_extern("uint64", "getauxval", T.uint64(words[1]))

    return ask


def _sent(session: Any, functions: dict[str, Any], level: Level) -> Any:
    """Functions by name, compiled for ``level``, as a module on the device."""
    import tvm

    from ladder.codegen.link import linker_of

    with tempfile.TemporaryDirectory(prefix="ladder-") as place:
        object_file = f"{place}/kernels.o"
        name = f"ladder-{level.name}-{len(functions)}.so"
        target = tvm.target.Target(dict(level.llvm))
        tvm.compile(tvm.IRModule(functions), target=target).mod.write_to_file(object_file)
        linker_of(level)(f"{place}/{name}", [object_file], strip=True)
        session.upload(f"{place}/{name}")
    return session.load_module(name)


def _packing(way: Way) -> Any:
    """The packing of the weights, for any K that is at least a whole scale block."""
    return packing_of(way[0], way[1], max(k for _, _, k in CHECKED))


def _kernel(way: Way, level: Level) -> Any:
    from ladder.codegen.kernels.library import kernel

    _, activation, scheme = way
    return kernel(f"{scheme}_gemm", _packing(way), table_mode(activation), level.kernels)


def _name(way: Way, level: Level) -> str:
    from ladder.codegen.kernels.library import name_of

    return name_of(_kernel(way, level))


def _operands(way: Way, m: int, n: int, k: int) -> list[np.ndarray]:
    dtype, activation, scheme = way
    read = random_activations(dtype, m, k, scheme, activation)
    return [*read, *packed_weights(dtype, n, k, scheme, activation)]


def _called(kernel: Any, operands: list[np.ndarray], out: np.ndarray) -> np.ndarray:
    import tvm

    result = tvm.runtime.tensor(out)
    kernel(*map(tvm.runtime.tensor, operands), result)
    return np.asarray(result.numpy())
