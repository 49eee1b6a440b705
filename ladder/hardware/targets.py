"""The targets by name, and the features that each needs. Light: the runtime imports it."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ladder.errors import LadderError
from ladder.support.suggest import did_you_mean

PORTABLE = "portable"  # the kernel family that any processor runs
WITH_TILES = ("amx",)  # kernel families that have matrix tiles
VNNI = "avx512f avx512bw avx512dq avx512vl avx512vbmi avx512_vnni"
MACHINES = {"AMD64": "x86_64", "aarch64": "arm64"}  # platform.machine() -> architecture
LINUX_ARM, MACOS_ARM = "aarch64-linux-gnu", "arm64-apple-macosx"
DOTS = "asimd asimddp"
ARMV8_2 = f"{DOTS} fphp asimdhp atomics"
ARMV8_6 = f"{ARMV8_2} i8mm bf16"
# Snapdragon phones do not let programs use SVE, but LLVM expects it of a Cortex-X4.
NO_SVE = ("-sve", "-sve2")
# Linux reports the features of an ARM CPU by getauxval(AT_HWCAP, AT_HWCAP2), with the bits of
# arch/arm64's asm/hwcap.h. /proc/cpuinfo has their names, but under qemu-user it is the host's.
HARDWARE, HARDWARE_2 = 16, 26
ARM_FLAGS = {
    "asimd": (HARDWARE, 1),
    "atomics": (HARDWARE, 8),
    "fphp": (HARDWARE, 9),
    "asimdhp": (HARDWARE, 10),
    "asimddp": (HARDWARE, 20),
    "i8mm": (HARDWARE_2, 13),
    "bf16": (HARDWARE_2, 14),
}
# A process must ask Linux for the matrix tiles: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA), see
# Documentation/arch/x86/xstate.rst. The C library has no name for the call, only its number.
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


@dataclass(frozen=True)
class Level:
    """An instruction level: kernels are compiled once for each."""

    name: str
    arch: str
    llvm: dict[str, object]
    flags: frozenset[str] = field(default_factory=frozenset)
    kernels: str = PORTABLE  # the family of low-bit kernels: portable, avx2, avxvnni, ...
    system: str = ""  # the system of its libraries, as in sys.platform; empty: this one

    @property
    def schemes(self) -> tuple[str, ...]:
        """The schemes by which its kernels compute a product."""
        return ("lut", "dot", "tile") if self.kernels in WITH_TILES else ("lut", "dot")


def _x86(name: str, mcpu: str, flags: str, kernels: str, *more: str) -> Level:
    """An x86 level; ``more`` are LLVM features in addition to those of ``mcpu``."""
    options: dict[str, object] = {"kind": "llvm", "mcpu": mcpu}
    if more:
        options["mattr"] = [f"+{name}" for name in more]
    return Level(name, "x86_64", options, frozenset(flags.split()), kernels)


def _arm(name: str, mcpu: str, flags: str, kernels: str, *mattr: str) -> Level:
    options: dict[str, object] = {"kind": "llvm", "mtriple": LINUX_ARM, "mcpu": mcpu}
    if mattr:
        options["mattr"] = list(mattr)
    return Level(name, "arm64", options, frozenset(flags.split()), kernels, "linux")


# In ascending order: the runtime takes the last level that the CPU has. A device comes before the
# level with the same instructions, so that it is only used by its own name.
LEVELS = {
    level.name: level
    for level in (
        _x86("x86-64", "x86-64", "", PORTABLE),
        _x86("x86-64-v3", "x86-64-v3", "avx2 fma f16c bmi2", "avx2"),
        _x86(
            "x86-64-v4",
            "x86-64-v4",
            "avx2 fma f16c bmi2 avx512f avx512bw avx512cd avx512dq avx512vl",
            "avx2",
        ),
        _x86("x86-64-avxvnni", "alderlake", "avx2 fma f16c bmi2 avx_vnni", "avxvnni"),
        _x86("x86-64-vnni", "icelake-server", VNNI, "avx512"),
        _x86(
            "x86-64-amx",
            "icelake-server",
            f"{VNNI} amx_tile amx_int8",
            "amx",
            "amx-tile",
            "amx-int8",
        ),
        Level("arm64", "arm64", {"kind": "llvm", "mtriple": LINUX_ARM}, system="linux"),
        Level(
            "apple-m",
            "arm64",
            {"kind": "llvm", "mtriple": MACOS_ARM, "mcpu": "apple-m1"},
            frozenset(DOTS.split()),
            "dotprod",
            "darwin",
        ),
        _arm("armv8.0-neon", "cortex-a72", "asimd", "neon"),
        _arm("raspberry-pi-5", "cortex-a76", ARMV8_2, "dotprod"),
        _arm("armv8.2-dotprod", "cortex-a76", ARMV8_2, "dotprod"),
        _arm("snapdragon-x-elite", "oryon-1", ARMV8_6, "i8mm"),
        _arm("snapdragon-8-gen3", "cortex-x4", ARMV8_6, "i8mm", *NO_SVE),
        _arm("aws-graviton3", "neoverse-v1", ARMV8_6, "i8mm"),
        _arm("armv8.6-i8mm", "generic", ARMV8_6, "i8mm", "+v8.6a", "+fullfp16"),
    )
}


@dataclass(frozen=True)
class Accelerator:
    """An NPU or a GPU: low-bit products are built for it, not whole models."""

    name: str
    arch: str  # hexagon or adreno
    config: dict[str, object]  # TVM's target
    kernels: str  # the family: hvx or opencl


def _hexagon(name: str, version: str) -> Accelerator:
    config: dict[str, object] = {
        "kind": "llvm",
        "mtriple": "hexagon",
        "mcpu": f"hexagon{version}",
        "mattr": [f"+hvx{version}", "+hvx-length128b"],
    }
    return Accelerator(name, "hexagon", config, "hvx")


ACCELERATORS = {
    accelerator.name: accelerator
    for accelerator in (
        *(_hexagon(f"hexagon-{version}", version) for version in ("v68", "v69", "v73", "v75")),
        _hexagon("snapdragon-x-elite-npu", "v73"),
        Accelerator(
            "snapdragon-x-elite-gpu", "adreno", {"kind": "opencl", "device": "adreno"}, "opencl"
        ),
    )
}
# TVM has a target for each level and each accelerator, with the tag ladder/NAME.
TAGS = {name: dict(level.llvm) for name, level in LEVELS.items()} | {
    name: dict(accelerator.config) for name, accelerator in ACCELERATORS.items()
}
SAME_KERNELS = ("x86-64-v4",)  # has the kernels of x86-64-v3, so a family leaves it out
# What other tools call the instruction sets.
COMMON_NAMES = {
    "avx2": "x86-64-v3",
    "haswell": "x86-64-v3",
    "avx512": "x86-64-v4",
    "avx512vnni": "x86-64-vnni",
    "avxvnni": "x86-64-avxvnni",
    "amx": "x86-64-amx",
    "x86": "x86-64-all",
    "neon": "armv8.0-neon",
    "dotprod": "armv8.2-dotprod",
    "i8mm": "armv8.6-i8mm",
    "arm": "arm64-all",
    "aarch64": "arm64-all",
}
FAMILIES = {
    "x86-64-all": tuple(
        name
        for name, level in LEVELS.items()
        if level.arch == "x86_64" and name not in SAME_KERNELS
    ),
    "arm64-all": ("armv8.0-neon", "armv8.2-dotprod", "armv8.6-i8mm"),
}
NATIVE = "native"


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this machine by their Linux names; empty if they cannot be read."""
    if platform.machine() in ("aarch64", "arm64"):
        return _arm_flags()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), ":")
    return frozenset(line.split(":", 1)[1].split())


@cache
def _arm_flags() -> frozenset[str]:
    if sys.platform == "darwin":
        return frozenset(DOTS.split())  # every Apple M has them
    try:
        known = ctypes.CDLL(None).getauxval
    except (AttributeError, OSError):
        return frozenset()
    known.argtypes, known.restype = [ctypes.c_ulong], ctypes.c_ulong
    return frozenset(name for name, (word, bit) in ARM_FLAGS.items() if known(word) >> bit & 1)


def runs_here(level: Level) -> bool:
    """Whether this machine can execute code of ``level``."""
    arch = MACHINES.get(platform.machine(), platform.machine())
    if level.system not in ("", sys.platform):
        return False
    if arch != level.arch or not level.flags <= cpu_flags():
        return False
    return "amx_tile" not in level.flags or tiles_permitted()


@cache
def tiles_permitted() -> bool:
    """Ask the system once whether this process may use AMX; log a refusal."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0:
        return True
    why = os.strerror(ctypes.get_errno())
    logging.getLogger("ladder").warning(
        "this CPU has AMX, but the system refuses it (arch_prctl: %s): AMX is not used", why
    )
    return False


def native_level() -> Level:
    """The highest level that this machine runs."""
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
    """The instruction levels that an artifact for ``target`` contains."""
    if target == NATIVE:
        return (native_level(),)
    if target in LEVELS:
        return (LEVELS[target],)
    if target in FAMILIES:
        return tuple(LEVELS[name] for name in FAMILIES[target])
    if target in ACCELERATORS:
        raise LadderError(
            f"{target} runs low-bit products, not whole models or this command: build them with "
            f"'ladder kernels build --target {target} -o FOLDER'"
        )
    near = did_you_mean(target, known_targets(), COMMON_NAMES)
    raise LadderError(f"unknown target '{target}'; one of {', '.join(known_targets())}{near}")
