"""Which instruction-set level a TVM target is."""

from __future__ import annotations

from typing import Any

from ladder.plugin import PREFIX
from ladder.targets import LEVELS, Level

ARCHES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
PLAIN = "plain"
# What LLVM calls an extension of ARM; those of x86 have Linux's names.
LLVM_NAMES = {
    "asimd": "neon",
    "asimddp": "dotprod",
    "fphp": "fullfp16",
    "asimdhp": "fullfp16",
    "atomics": "lse",
}


def level_of(target: Any) -> Level | None:
    """The level of a tag, else the most able one whose instructions the target has.

    None where low-bit kernels cannot run: no CPU. Without a target, kernels are portable.
    """
    if target is None:
        return Level(PLAIN, "", {})
    if target.kind.name != "llvm":
        return None
    named = LEVELS.get(target.tag.removeprefix(PREFIX))
    return named or _by_features(target)


def _by_features(target: Any) -> Level:
    from tvm.target import codegen

    triple = str(target.attrs.get("mtriple", "") or codegen.llvm_get_system_triple())
    arch = ARCHES.get(triple.split("-")[0], "")
    has = {_plain(name) for name in codegen.llvm_get_cpu_features(target)}
    able = [
        level
        for level in LEVELS.values()
        if level.arch == arch
        and level.system in ("", "darwin" if "apple" in triple or "darwin" in triple else "linux")
        and {_plain(LLVM_NAMES.get(flag, flag)) for flag in level.flags} <= has
    ]
    return able[-1] if able else Level(PLAIN, arch, {})


def _plain(name: str) -> str:
    """Linux and LLVM spell an extension alike but for what stands between its parts."""
    return name.replace("_", "").replace("-", "")
