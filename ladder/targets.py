"""The targets by name, and what each needs of the machine. Light: the runtime imports it."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ladder.errors import LadderError


@dataclass(frozen=True)
class Level:
    """One instruction-set level: kernels are compiled once for each."""

    name: str
    arch: str
    llvm: dict[str, object]
    flags: frozenset[str] = field(default_factory=frozenset)
    kernels: str = "portable"  # the family of low-bit kernels: portable, avx2, avxvnni, avx512


def _x86(name: str, mcpu: str, flags: str, kernels: str) -> Level:
    options: dict[str, object] = {"kind": "llvm", "mcpu": mcpu}
    return Level(name, "x86_64", options, frozenset(flags.split()), kernels)


def _arm_triple() -> str:
    return "arm64-apple-macosx" if sys.platform == "darwin" else "aarch64-linux-gnu"


# Ordered from the plainest to the most able: the runtime takes the last one the CPU has.
LEVELS = {
    level.name: level
    for level in (
        _x86("x86-64", "x86-64", "", "portable"),
        _x86("x86-64-v3", "x86-64-v3", "avx2 fma f16c bmi2", "avx2"),
        _x86("x86-64-avxvnni", "alderlake", "avx2 fma f16c bmi2 avx_vnni", "avxvnni"),
        _x86(
            "x86-64-vnni",
            "icelake-server",
            "avx512f avx512bw avx512dq avx512vl avx512vbmi avx512_vnni",
            "avx512",
        ),
        Level("arm64", "arm64", {"kind": "llvm", "mtriple": _arm_triple()}),
    )
}
FAMILIES = {"x86-64-all": tuple(n for n, level in LEVELS.items() if level.arch == "x86_64")}
NATIVE = "native"


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this machine, by their Linux names (empty where they cannot be read)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), ":")
    return frozenset(line.split(":", 1)[1].split())


def runs_here(level: Level) -> bool:
    """Whether this machine can execute code of ``level``."""
    names = {"AMD64": "x86_64", "aarch64": "arm64"}
    arch = names.get(platform.machine(), platform.machine())
    return arch == level.arch and level.flags <= cpu_flags()


def native_level() -> Level:
    """The most able level of this machine."""
    able = [level for level in LEVELS.values() if runs_here(level)]
    if not able:
        raise LadderError(
            f"no kernels for this machine ({platform.machine()}); "
            f"name a target with --target: {', '.join(known_targets())}"
        )
    return able[-1]


def known_targets() -> list[str]:
    """Every name that ``--target`` takes."""
    return [NATIVE, *LEVELS, *FAMILIES]


def levels_of(target: str) -> tuple[Level, ...]:
    """The instruction-set levels that an artifact for ``target`` carries."""
    if target == NATIVE:
        return (native_level(),)
    if target in LEVELS:
        return (LEVELS[target],)
    if target in FAMILIES:
        return tuple(LEVELS[name] for name in FAMILIES[target])
    raise LadderError(f"unknown target '{target}'; one of {', '.join(known_targets())}")
