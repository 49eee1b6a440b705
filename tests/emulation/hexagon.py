"""Runs Hexagon's kernels under qemu-hexagon: the object and header are linked into a small program.

The program reads calls from its standard input and writes what they return. It has no C library:
Debian has none for Hexagon.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulation.apt import Missing, run, tool
from ladder.codegen.hexagon_library import OBJECT
from ladder.codegen.plain_c import CFunction

Array = npt.NDArray[Any]
EMULATED = "v67"  # the newest that qemu 7.2 knows
SOURCE = """\
#include "ladder_kernels.h"
typedef unsigned long size_t;
static long system_call(long number, long a, long b, long c) {
  register long r0 __asm__("r0") = a; register long r1 __asm__("r1") = b;
  register long r2 __asm__("r2") = c; register long r6 __asm__("r6") = number;
  __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r6) : "memory");
  return r0;
}
void *memcpy(void *to, const void *from, size_t n) {
  for (volatile char *t = to; n; --n) *t++ = *(const char *)from, from = (const char *)from + 1;
  return to;
}
void *memset(void *to, int value, size_t n) {
  for (volatile char *t = to; n; --n) *t++ = (char)value;
  return to;
}
static void move(long number, int stream, void *at, long size) {
  while (size > 0) {
    long done = system_call(number, stream, (long)at, size);
    if (done <= 0) system_call(93, 1, 0, 0);
    at = (char *)at + done; size -= done;
  }
}
static char heap[1 << 26] __attribute__((aligned(128)));
void _start(void) {
  struct { int32_t function, buffers, sizes; } call;
  for (;;) {
    static struct { int32_t bytes, written; } buffer[16];
    static int32_t n[16];
    void *b[16];
    move(63, 0, &call, sizeof call);
    if (call.function < 0) system_call(93, 0, 0, 0);
    move(63, 0, buffer, call.buffers * 8);
    move(63, 0, n, call.sizes * 4);
    char *free = heap;
    for (int i = 0; i < call.buffers; ++i) {
      b[i] = free;
      free += (buffer[i].bytes + 127) / 128 * 128;
      if (buffer[i].written) memset(b[i], 77, buffer[i].bytes);
      else move(63, 0, b[i], buffer[i].bytes);
    }
    switch (call.function) {
%s
    }
    for (int i = 0; i < call.buffers; ++i)
      if (buffer[i].written) move(64, 1, b[i], buffer[i].bytes);
  }
}
"""


@dataclass(frozen=True)
class Call:
    """A function's name, inputs in order, shapes and types of results, and sizes."""

    name: str
    inputs: Sequence[Array]
    results: Sequence[tuple[tuple[int, ...], str]]
    sizes: dict[str, int]


class Program:
    """The kernels of a folder as a program for qemu-hexagon."""

    def __init__(self, folder: Path, functions: Sequence[CFunction]) -> None:
        self.functions = {function.name: i for i, function in enumerate(functions)}
        self.sizes = [[name for name, _ in function.sizes] for function in functions]
        cases = [_case(i, function) for i, function in enumerate(functions)]
        source, started = folder / "start.c", folder / "start.o"
        self.path = folder / "program"
        source.write_text(SOURCE % "\n".join(cases))
        zig = [sys.executable, "-m", "ziglang"]  # a compiler and linker for every processor
        options = ["-target", "hexagon-freestanding", f"-mcpu=hexagon{EMULATED}", "-O2"]
        options += ["-ffreestanding", "-fno-builtin", "-Wall", "-Werror", "-I", str(folder)]
        run([*zig, "cc", *options, "-c", str(source), "-o", str(started)], "zig cc for Hexagon")
        objects = [str(started), str(folder / OBJECT)]
        run([*zig, "ld.lld", "-o", str(self.path), *objects], "linking for Hexagon")

    def __call__(self, calls: Sequence[Call]) -> list[list[Array]]:
        """The results of each call, in one run of the emulator."""
        emulator = tool("qemu-hexagon", "qemu-hexagon-static", package="qemu-user-static")
        stream = b"".join(self._packed(call) for call in calls) + struct.pack("<3i", -1, 0, 0)
        done = subprocess.run(
            [emulator, "-cpu", EMULATED, self.path], input=stream, capture_output=True, check=False
        )
        if done.returncode:
            raise Missing(
                f"qemu-hexagon ended with {done.returncode}: {done.stderr.decode()[-300:]}"
            )
        return _unpacked(done.stdout, calls)

    def _packed(self, call: Call) -> bytes:
        number = self.functions[call.name]
        sizes = [call.sizes[name] for name in self.sizes[number]]
        given = [np.ascontiguousarray(array) for array in call.inputs]
        made = [(np.zeros(shape, kind).nbytes, 1) for shape, kind in call.results]
        buffers = [(array.nbytes, 0) for array in given] + made
        head = struct.pack("<3i", number, len(buffers), len(sizes))
        head += b"".join(struct.pack("<2i", *buffer) for buffer in buffers)
        head += struct.pack(f"<{len(sizes)}i", *sizes)
        return head + b"".join(array.tobytes() for array in given)


def _case(number: int, function: CFunction) -> str:
    arguments = [f"b[{i}]" for i in range(len(function.buffers))]
    arguments += [f"n[{i}]" for i in range(len(function.sizes))]
    return f"    case {number}: {function.name}({', '.join(arguments)}); break;"


def _unpacked(stream: bytes, calls: Sequence[Call]) -> list[list[Array]]:
    at, found = 0, []
    for call in calls:
        results = []
        for shape, kind in call.results:
            array = np.frombuffer(stream, kind, int(np.prod(shape)), at).reshape(shape)
            at += array.nbytes
            results.append(array)
        found.append(results)
    assert at == len(stream)
    return found
