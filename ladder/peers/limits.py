"""The machine's limits, as one more engine: cold reads, and the peak of integer products.

They are small TIR kernels: sums over memory that no cache holds, and products of registers (or AMX
tiles) in enough independent chains to hide their latency. A step of each takes some milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from ladder.hardware.targets import NATIVE, Level, cpu_flags
from ladder.peers.engine import LIMITS, Engine, Kind, Steps
from ladder.runtime.session import aligned_zeros
from ladder.timing.product import level_here

READ, INTEGER, MATRIX = "cold read", "int8 products", "AMX int8 products"
LANES = 16
STREAMS = 8  # vectors that an iteration of the read loop sums
READ_STEPS = 8
CHAINS, TILES = 12, 4
TURNS = 200_000  # of the loop over the chains
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


class Limit(Steps):
    """One limit: a step processes ``work`` bytes or operations (two per product)."""

    def __init__(self, what: str, work: float, functions: Sequence[Callable[[], object]]) -> None:
        self.what, self.work = what, work
        self._functions, self.steps = functions, len(functions)

    def run(self, m: int, step: int) -> None:
        self._functions[step]()

    def scheme(self, m: int) -> str:
        return self.what


class Limits(Engine):
    name, package = LIMITS, "ladder"

    def version(self) -> str:
        return version("ladder")

    def kinds(self, n: int, k: int) -> list[Kind]:
        found = [Kind(READ, LIMITS, "bytes/s")]
        if _instruction():
            found.append(Kind(INTEGER, LIMITS, "operations/s"))
        if "amx_int8" in cpu_flags() and _tiles_allowed():
            found.append(Kind(MATRIX, LIMITS, "operations/s"))
        return found

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Limit:
        if kind.type == READ:
            return _read(level_here(NATIVE), self.threads, rotate)
        return _integer(self.threads) if kind.type == INTEGER else _matrix(self.threads)


def _build(function: Any, options: dict[str, object]) -> Any:
    import tvm

    target = tvm.target.Target(dict(options))
    return tvm.compile(tvm.IRModule({"main": function}), target=target)["main"]


def _tensor(array: np.ndarray) -> Any:
    import tvm

    return tvm.runtime.from_dlpack(array)


def _filled(shape: tuple[int, ...], dtype: str, value: int) -> Any:
    array = aligned_zeros(shape, dtype)
    array[...] = value
    return _tensor(array)


def _read(level: Level, threads: int, rotate: float) -> Limit:
    """A sum over int32 words; each thread reads its own part of every slice."""
    from tvm.script import tirx as T

    width = STREAMS * LANES

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, out_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        P, L = T.int64(), T.int64()
        x = T.match_buffer(x_, (P, L, width), "int32")
        out = T.match_buffer(out_, (P, width), "int32")
        for p in T.parallel(P):
            sums = T.alloc_buffer((width,), "int32")
            for v in T.unroll(STREAMS):
                sums[T.ramp(v * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
            for i in T.serial(L):
                for v in T.unroll(STREAMS):
                    at = T.meta_var(T.ramp(v * LANES, 1, LANES))
                    sums[at] = sums[at] + x[p, i, at]
            for v in T.unroll(STREAMS):
                at = T.meta_var(T.ramp(v * LANES, 1, LANES))
                out[p, at] = sums[at]

    lines = max(1, int(rotate / READ_STEPS / threads / (4 * width)))
    slices = []
    for _ in range(READ_STEPS):
        # Not zeros: pages that were never written share one page in memory.
        slices.append(_filled((threads, lines, width), "int32", 1))
    out = _filled((threads, width), "int32", 0)
    function = _build(kernel, level.llvm)
    work = 4.0 * threads * lines * width
    what = f"sums over {READ_STEPS * work / 1e6:.0f} MB"
    return Limit(what, work, [partial(function, part, out) for part in slices])


@dataclass(frozen=True)
class Instruction:
    """An instruction that multiplies bytes: CPU features, int32 lanes, products, LLVM's names."""

    flags: str
    lanes: int
    products: int
    name: str
    mcpu: str
    what: str


INSTRUCTIONS = (
    Instruction(
        "avx512_vnni avx512f", 16, 64, "x86.avx512.vpdpbusd.512", "icelake-server", "vpdpbusd zmm"
    ),
    Instruction("avx_vnni", 8, 32, "x86.avx512.vpdpbusd.256", "alderlake", "vpdpbusd ymm"),
    Instruction("avx2", 8, 32, "", "x86-64-v3", "vpmaddubsw, vpmaddwd, vpaddd ymm"),
)


def _instruction() -> Instruction | None:
    """The best instruction that this CPU has."""
    return next((i for i in INSTRUCTIONS if {*i.flags.split()} <= cpu_flags()), None)


def _integer(threads: int) -> Limit:
    from tvm.script import tirx as T

    from ladder.codegen.kernels.vector import llvm

    best = _instruction()
    assert best is not None
    lanes, words = best.lanes, f"int32x{best.lanes}"

    def dot(sums: Any, a: Any, b: Any) -> Any:
        signed = f"int8x{4 * lanes}"
        a, b = T.reinterpret(a, dtype=signed), T.reinterpret(b, dtype=signed)
        if best.name:
            return llvm(best.name, words, sums, a, b)
        pairs = llvm("x86.avx2.pmadd.ub.sw", f"int16x{2 * lanes}", a, b)
        ones = T.broadcast(T.int16(1), 2 * lanes)
        return sums + llvm("x86.avx2.pmadd.wd", words, pairs, ones)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, out_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        P = T.int64()
        x = T.match_buffer(x_, (P, CHAINS, lanes), "int32")
        out = T.match_buffer(out_, (P, CHAINS, lanes), "int32")
        for p in T.parallel(P):
            sums = T.alloc_buffer((CHAINS * lanes,), "int32")
            for c in T.unroll(CHAINS):
                sums[T.ramp(c * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for _ in T.serial(TURNS):
                for c in T.unroll(CHAINS):
                    at = T.meta_var(T.ramp(c * lanes, 1, lanes))
                    row = T.meta_var(T.ramp(0, 1, lanes))
                    sums[at] = dot(sums[at], sums[at], x[p, 0, row])
            for c in T.unroll(CHAINS):
                out[p, c, T.ramp(0, 1, lanes)] = sums[T.ramp(c * lanes, 1, lanes)]

    x = _filled((threads, CHAINS, lanes), "int32", 0x01010101)
    out = _filled((threads, CHAINS, lanes), "int32", 0)
    function = _build(kernel, {"kind": "llvm", "mcpu": best.mcpu})
    work = 2.0 * threads * TURNS * CHAINS * best.products
    return Limit(best.what, work, [partial(function, x, out)])


def _tiles_allowed() -> bool:
    """Ask the operating system for AMX, which it may refuse."""
    answer: int = ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)
    return answer == 0


def _matrix(threads: int) -> Limit:
    """``tdpbssd`` of 16 x 64 by 64 x 16 bytes on four tiles of sums."""
    from tvm.script import tirx as T

    def call(name: str, *operands: Any) -> Any:
        number = T.llvm_lookup_intrinsic_id(f"llvm.x86.{name}")
        return T.evaluate(T.call_llvm_intrin(number, *operands, dtype="void"))

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(x_: T.handle, out_: T.handle, config_: T.handle):  # type: ignore[no-untyped-def]
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        P = T.int64()
        x = T.match_buffer(x_, (P, 16, 64), "int8")
        out = T.match_buffer(out_, (P, TILES, 16, 16), "int32")
        config = T.match_buffer(config_, (64,), "uint8")
        for p in T.parallel(P):
            call("ldtilecfg", T.address_of(config[0]))
            call("tilezero", T.int8(0))
            call("tilezero", T.int8(1))
            call("tilezero", T.int8(2))
            call("tilezero", T.int8(3))
            call("tileloadd64", T.int8(4), T.address_of(x[p, 0, 0]), T.int64(64))
            call("tileloadd64", T.int8(5), T.address_of(x[p, 0, 0]), T.int64(64))
            for _ in T.serial(TURNS):
                call("tdpbssd", T.int8(0), T.int8(4), T.int8(5))
                call("tdpbssd", T.int8(1), T.int8(4), T.int8(5))
                call("tdpbssd", T.int8(2), T.int8(4), T.int8(5))
                call("tdpbssd", T.int8(3), T.int8(4), T.int8(5))
            call("tilestored64", T.int8(0), T.address_of(out[p, 0, 0, 0]), T.int64(64))
            call("tilestored64", T.int8(1), T.address_of(out[p, 1, 0, 0]), T.int64(64))
            call("tilestored64", T.int8(2), T.address_of(out[p, 2, 0, 0]), T.int64(64))
            call("tilestored64", T.int8(3), T.address_of(out[p, 3, 0, 0]), T.int64(64))
            call("tilerelease")

    config = aligned_zeros((64,), "uint8")
    config[0] = 1  # palette; then bytes a row as uint16, and rows
    config[16:32].view(np.uint16)[:6], config[48:54] = 64, 16
    x, out = _filled((threads, 16, 64), "int8", 1), _filled((threads, TILES, 16, 16), "int32", 0)
    configured = _tensor(config)
    function = _build(kernel, {"kind": "llvm", "mcpu": "sapphirerapids"})
    work = 2.0 * threads * TURNS * TILES * 16 * 16 * 64
    return Limit("tdpbssd", work, [partial(function, x, out, configured)])
