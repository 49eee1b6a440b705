"""Packed functions that round and pack weights that are parameters, when their values are known.

``relax.transform.LiftTransformParams`` puts the calls into ``NAME_transform_params``.
"""

from __future__ import annotations

from typing import Any

ROUND, PACK = "ladder.round_weight", "ladder.pack_weight"


def register() -> None:
    """Register the two functions with TVM's runtime. They import Ladder when they are called."""
    import tvm_ffi

    for name, function in ((ROUND, _round), (PACK, _pack)):
        tvm_ffi.register_global_func(name, function, override=True)


def _round(weight: Any, type: str, rounding: str, transposed: int, site: str) -> list[Any]:
    """A weight (stored [K, N] if ``transposed``) -> codes [N, K], scale[, zero][, tensor scale]."""
    from ladder.plugin.model import round_array

    return _tensors(round_array(_array(weight), type, rounding, bool(transposed), site))


def _pack(op: str, type: str, *operands: Any) -> list[Any]:
    """The operands of a low-bit weight -> the operands of a kernel, in order."""
    from ladder.plugin.model import packed

    return _tensors(packed(op, type, [_array(o) for o in operands]))


def _array(tensor: Any) -> Any:
    import tvm

    return tensor.numpy() if hasattr(tensor, "numpy") else tvm.runtime.from_dlpack(tensor).numpy()


def _tensors(arrays: list[Any]) -> list[Any]:
    import tvm

    return [tvm.runtime.tensor(array) for array in arrays]
