"""Schedule rules for TVM's dlight: low-bit kernels for the target, and plain loops around them.

    from ladder.plugin.dlight import DECODE
    with target:
        mod = dlight.ApplyDefaultSchedule(*DECODE)(mod)

A rule skips functions that it does not know, so TVM's own rules may follow. No rule changes a
result.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir
from tvm.s_tir import dlight
from tvm.s_tir.dlight.analysis import normalize_prim_func
from tvm.s_tir.dlight.base import try_inline

from ladder.codegen.context import with_root
from ladder.codegen.kernels.library import KERNELS, described, kernel
from ladder.plugin.levels import level_of

LANES = 16
PARALLEL_FROM = 1 << 15  # elements that pay for waking the other threads


class LowBitKernel(dlight.ScheduleRule):  # type: ignore[misc]
    """Replaces a low-bit kernel of any instruction set by the one for the target.

    All kernels take the same operands and give the same bits.
    """

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        level, parts = level_of(target), described(func)
        if level is None or parts is None or parts[0] not in KERNELS[level.kernels]:
            return None
        made = with_root(kernel(*parts, level.kernels))
        return s_tir.Schedule(made.with_attr("global_symbol", func.attrs["global_symbol"]))


class Elementwise(dlight.ScheduleRule):  # type: ignore[misc]
    """Loops without a reduction become one loop in vectors of 16, parallel if it is long."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name != "llvm" or described(func) is not None:
            return None
        schedule = s_tir.Schedule(func)
        blocks = normalize_prim_func(schedule)
        if not blocks:
            return None
        blocks = try_inline(schedule, blocks)
        if len(blocks) != 1 or not blocks[0].is_injective():
            return None
        loops = schedule.get_loops(blocks[0].block_rv)
        if not loops:
            return None
        _vectorize(schedule, schedule.fuse(*loops))
        return schedule


def _vectorize(schedule: Any, loop: Any) -> None:
    extent = schedule.get(loop).extent
    count = int(extent) if hasattr(extent, "value") else None
    if count is None or count % LANES:
        return
    outer, inner = schedule.split(loop, [None, LANES])
    schedule.vectorize(inner)
    if count >= PARALLEL_FROM:
        schedule.parallel(outer)


DECODE = (LowBitKernel(), Elementwise(), dlight.cpu.GEMV(), dlight.cpu.Reduction())
