"""What the innermost loop of a compiled kernel consists of, read from LLVM's assembly.

Loops are compiled without unrolling, so that one pass through a loop does what one pass through
the kernel's own loop does: a known number of weight bits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import tvm

from ladder.codegen.kernels.library import name_of

NOT_UNROLLED = ["-unroll-count:uint=1"]  # options of LLVM
# What is counted, by architecture: the first pattern that an instruction matches. ``spill`` is
# what goes through the stack; ``vector`` is the rest of what vector units do.
KINDS: dict[str, dict[str, str]] = {
    "x86_64": {
        "prefetch": r"prefetch",
        "spill": r"v.*\((%rsp|%rbp)",
        "lookup": r"vpermb|vpermi2b|vpermt2b|vpshufb",
        "dot": r"vpdpb|vpmaddubsw|vpmaddwd",
        "load": r"v.*\(%r",
        "vector": r"v",
    },
    "arm64": {
        "prefetch": r"prfm",
        "spill": r"(ldr|ldp|str|stp)\s+[qd].*\[sp",
        "lookup": r"tb[lx]\b",
        "dot": r"[su]dot|usdot|sudot|[su]mmla|usmmla|[su]m[lu]l",
        "load": r"(ldr|ldur|ld1r?|ld2|ld4)\s+[{qdv]|ldp\s+[qd]",
        "vector": r"\w+\s+\{?\s*[vqd]\d+",
    },
    "hexagon": {
        "spill": r".*vmemu?\(r29",
        "lookup": r".*vlut",
        "dot": r".*vrmpy",
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
TWO_LOADS = re.compile(r"ldp\s+[qd]")


def assembly(func: Any, target: Mapping[str, object]) -> str:
    """LLVM's assembly of a PrimFunc, its loops not unrolled."""
    config = {**target, "cl-opt": NOT_UNROLLED}
    module = tvm.IRModule({name_of(func): func})
    return str(tvm.compile(module, target=tvm.target.Target(config)).mod.inspect_source("s"))


def instruction_mix(text: str, arch: str, kind: str) -> dict[str, int]:
    """Instructions by kind of the innermost loop with the most of ``kind`` that computes sums."""
    counts = [_count(body, arch) for body in _innermost(text.splitlines(), arch)]
    sums: list[Counter[str]] = [count for count in counts if count["lookup"] + count["dot"]]
    return dict(max(sums, key=lambda count: count[kind], default={}))


def _count(body: list[str], arch: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in body:
        for kind, pattern in KINDS[arch].items():
            if re.match(pattern, line):
                counts[kind] += 2 if TWO_LOADS.match(line) else 1
                break
    return counts


def _innermost(lines: list[str], arch: str) -> Iterator[list[str]]:
    """The instructions of loops that hold no other loop."""
    at = {m.group(1): i for i, line in enumerate(lines) if (m := LABEL.match(line))}
    loops = _hardware_loops(lines, at) if arch == "hexagon" else _branches(lines, at, arch)
    ends = sorted(loops)
    for first, last in ends:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in ends):
            yield [line.strip() for line in lines[first:last] if not LABEL.match(line)]


def _branches(lines: list[str], at: Mapping[str, int], arch: str) -> set[tuple[int, int]]:
    """(first, last) line of what ends in a branch back."""
    found = set()
    for i, line in enumerate(lines):
        back = BACK[arch].match(line.strip())
        if back and at.get(back.group(1), i) < i:
            found.add((at[back.group(1)], i))
    return found


def _hardware_loops(lines: list[str], at: Mapping[str, int]) -> set[tuple[int, int]]:
    """The same of Hexagon, whose loops are begun by ``loop0`` and ended by ``endloop0``."""
    targets = {back.group(1) for line in lines if (back := BACK["hexagon"].search(line))}
    starts = sorted(at[name] for name in targets if name in at)
    found = set()
    for i, line in enumerate(lines):
        before = [start for start in starts if start < i]
        if ":endloop0" in line and before:
            found.add((before[-1], i))
    return found
