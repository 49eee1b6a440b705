"""Counts the instructions in the innermost loops of a compiled kernel, from LLVM's assembly.

Loops are compiled without unrolling, so that one iteration of a loop processes as many weight bits
as one iteration of the loop in the kernel's source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tvm

from ladder.codegen.kernels.library import name_of

# Options of LLVM, which unrolls short loops unless all of them are given.
NOT_UNROLLED = [
    "-unroll-count:uint=1",
    "-unroll-full-max-count:uint=1",
    "-unroll-max-upperbound:uint=0",
]
# Kinds of instructions by architecture: the first pattern that matches counts. ``spill`` goes
# through the stack; ``float`` combines blocks; ``vector`` is any other vector instruction.
# ld4 loads four registers, and counts as four.
KINDS: dict[str, dict[str, str]] = {
    "x86_64": {
        "prefetch": r"prefetch",
        "float": r"v(mul|add|sub|fn?m\w+)ps|vcvt",
        "spill": r"v.*\((%rsp|%rbp)",
        "lookup": r"vpermb|vpermi2b|vpermt2b|vpshufb",
        "dot": r"(\{vex\}\s+)?vpdpb|vpmaddubsw|vpmaddwd",
        "store": r"v\w+\s+%[xyz]mm\d+, .*\(%r",
        "load": r"v.*\(%r",
        "vector": r"v",
    },
    "arm64": {
        "prefetch": r"prfm",
        "float": r"f(mul|add|sub|ml[as])\b|[su]cvtf|fcvt",
        "spill": r"(ldr|ldp|str|stp)\s+[qd].*\[sp",
        "lookup": r"tb[lx]\b",
        "dot": r"[su]dot|usdot|sudot|[su]mmla|usmmla|[su]m[lu]l",
        "store": r"st[rpu]+\s+[qd]|st1\s",
        "load": r"(ldr|ldur|ld1r?|ld2|ld4)\s+[{qdv]|ldp\s+[qd]",
        "vector": r"\w+\s+\{?\s*[vqd]\d+",
    },
    "hexagon": {
        "spill": r".*vmemu?\(r29",
        "lookup": r".*vlut",
        "dot": r".*vrmpy",
        "store": r"vmemu?\(.*=",
        "load": r"v\d+(\.cur|\.tmp)?\s*=\s*vmemu?\(",
        "vector": r"v\d+",
    },
}
LABEL = re.compile(r"^(\.L\w+|\w+):")
BACK = {
    "x86_64": re.compile(r"j\w+\s+(\.L\w+)$"),
    "arm64": re.compile(r"(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\w+,)\s*(\.L\w+)$"),
    "hexagon": re.compile(r"\bloop0\((?:##)?(\.L\w+)"),
}
REGISTERS = {"ldp": 2, "stp": 2, "ld4": 4}
# A function; parallel bodies are separate functions, named after the PrimFunc.
BEGIN = re.compile(r"^(?:__tvm_ffi_)?(\w+?)(?:_compute_\w*)?:")


def assembly(funcs: Sequence[Any], target: Mapping[str, object]) -> dict[str, str]:
    """LLVM's assembly of PrimFuncs by name, without unrolled loops."""
    config = {**target, "cl-opt": NOT_UNROLLED}
    module = tvm.IRModule({name_of(func): func for func in funcs})
    built = tvm.compile(module, target=tvm.target.Target(config)).mod
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in str(built.inspect_source("s")).splitlines():
        begin = BEGIN.match(line)
        if begin:
            lines = found.setdefault(begin.group(1), [])
        lines.append(line)
    return {name_of(func): "\n".join(found[name_of(func)]) for func in funcs}


def loops(text: str, arch: str) -> list[dict[str, int]]:
    """The number of instructions of each kind in every innermost loop."""
    return [dict(_count(body, arch)) for body in innermost(text.splitlines(), arch)]


def _count(body: list[str], arch: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in body:
        for kind, pattern in KINDS[arch].items():
            if re.match(pattern, line):
                counts[kind] += REGISTERS.get(line.split()[0], 1)
                break
    return counts


def innermost(lines: list[str], arch: str) -> Iterator[list[str]]:
    """The instructions of loops that contain no other loop."""
    at = {m.group(1): i for i, line in enumerate(lines) if (m := LABEL.match(line))}
    loops = _hardware_loops(lines, at) if arch == "hexagon" else _branches(lines, at, arch)
    ends = sorted(loops)
    for first, last in ends:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in ends):
            yield [line.strip() for line in lines[first:last] if not LABEL.match(line)]


def _branches(lines: list[str], at: Mapping[str, int], arch: str) -> set[tuple[int, int]]:
    """(first, last) line of each piece that ends in a branch to its beginning."""
    found = set()
    for i, line in enumerate(lines):
        back = BACK[arch].match(line.strip())
        if back and at.get(back.group(1), i) < i:
            found.add((at[back.group(1)], i))
    return found


def _hardware_loops(lines: list[str], at: Mapping[str, int]) -> set[tuple[int, int]]:
    """The same for Hexagon, whose loops begin with ``loop0`` and end with ``endloop0``."""
    targets = {back.group(1) for line in lines if (back := BACK["hexagon"].search(line))}
    starts = sorted(at[name] for name in targets if name in at)
    found = set()
    for i, line in enumerate(lines):
        before = [start for start in starts if start < i]
        if ":endloop0" in line and before:
            found.add((before[-1], i))
    return found
