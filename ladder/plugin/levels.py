"""The instruction level of a TVM target."""

from __future__ import annotations

from typing import Any

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level
from ladder.plugin import PREFIX

NO_MODULES = (
    "{target}: a Relax module cannot run there, TVM's wheel has no runtime for Hexagon; compile "
    "the module for the CPU (ladder/snapdragon-x-elite), and its low-bit products for the NPU with "
    "'ladder kernels build --target snapdragon-x-elite-npu -o FOLDER'"
)
NOT_LOWERED = (
    "%s: no low-bit products, weights stay float and TVM's own pipeline takes the module; low-bit "
    "kernels for Adreno are called by a host program: 'ladder kernels build "
    "--target snapdragon-x-elite-gpu -o FOLDER'"
)
ARCHES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
PLAIN = "plain"
# LLVM's names of ARM's extensions; those of x86 have the same names as in Linux.
LLVM_NAMES = {
    "asimd": "neon",
    "asimddp": "dotprod",
    "fphp": "fullfp16",
    "asimdhp": "fullfp16",
    "atomics": "lse",
}


def level_of(target: Any) -> Level | None:
    """The level of a tag, or else the highest one whose instructions the target has.

    None if the target is not a CPU, where modules with low-bit kernels cannot run. Without a
    target, kernels are portable. Raises ``LadderError`` if no module can run there.
    """
    if target is None:
        return Level(PLAIN, "", {})
    if target.kind.name != "llvm":
        return None
    if str(target.attrs.get("mtriple", "")).startswith("hexagon"):
        raise LadderError(NO_MODULES.format(target=target.tag or "hexagon"))
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
    """An extension's name without separators, in which Linux and LLVM differ."""
    return name.replace("_", "").replace("-", "")
