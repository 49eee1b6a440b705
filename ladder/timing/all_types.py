"""``ladder bench kernel --all-types``: time every type, next to TVM without Ladder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.hardware.targets import Level
from ladder.ir.dtype import DType
from ladder.passes.kernel_choice import SCHEMES, choose, no_tiles
from ladder.runtime.session import threads
from ladder.support.progress import track
from ladder.timing.catalogue import all_types
from ladder.timing.cost_tables import machine_of
from ladder.timing.product import level_here, prepared, random_weight, rotated, time_calls

TOKENS, COST_TOKENS = (1, 32, 128), (1, 2, 3, 4, 8, 16, 32, 128)
QUICK_SECONDS, QUICK_ROUNDS = 0.15, 3
RIVALS = ("tvm",)


def bench_types(
    n: int, k: int, activation: str, target: str, against: str = "", every_scheme: bool = False
) -> list[dict[str, Any]]:
    """A row for each type and M: our time, TVM's time for dequantize + matmul, and their ratio.

    ``every_scheme`` times all schemes of a type, not only the chosen one, for a cost table.
    """
    if against not in ("", *RIVALS):
        raise LadderError(f"--against '{against}': give one of: {', '.join(RIVALS)}")
    level, rivals = level_here(target), {}
    rows = []
    for m in COST_TOKENS if every_scheme else TOKENS:
        for dtype in track(all_types(), f"every type at M={m}"):
            key = (m, _program(dtype))
            if against and key not in rivals:
                rivals[key] = time_tvm(dtype, m, n, k, level)
            for scheme in _schemes(dtype, activation, m, k, level, every_scheme):
                row = _row(dtype, m, n, k, *scheme, level)
                if against:
                    row["tvm_s"] = rivals[key]
                    row["times_tvm"] = rivals[key] / row["median_s"]
                rows.append(row)
    return rows


def _schemes(
    dtype: DType, activation: str, m: int, k: int, level: Level, every: bool
) -> Iterator[tuple[str, str]]:
    """The schemes of a type on this level, the chosen one first."""
    seen: set[str] = set()
    for scheme in SCHEMES if every else SCHEMES[:1]:
        found = choose(
            dtype, activation, m, machine_of(level.name), scheme, no_tiles(dtype, activation, k)
        )
        if found.scheme not in seen:
            yield found.scheme, found.activation
        seen.add(found.scheme)


def _row(
    dtype: DType, m: int, n: int, k: int, scheme: str, activation: str, level: Level
) -> dict[str, Any]:
    call, sets, stored = prepared(dtype, m, n, k, activation, scheme, level)
    median, spread = time_calls(call, sets, QUICK_SECONDS, QUICK_ROUNDS)
    return {
        "type": str(dtype),
        "m": m,
        "n": n,
        "k": k,
        "bits_per_weight": round(8 * stored / (n * k), 3),
        "activation": activation,
        "scheme": scheme,
        "isa": level.name,
        "threads": threads(),
        "median_s": median,
        "spread_s": spread,
    }


def _program(dtype: DType) -> tuple[Any, ...]:
    """What TVM's program depends on: types that are equal in this are timed once."""
    kind = len(dtype.element.book) if dtype.levels else dtype.element.low < 0
    return kind, dtype.group, dtype.scale, dtype.zero


def time_tvm(dtype: DType, m: int, n: int, k: int, level: Level) -> float:
    """Median seconds of TVM's default pipeline on dequantize + matmul.

    Each code takes a byte, as in a compiler without low-bit types. The weights are decoded to
    float32 and transposed for the product.
    """
    import tvm
    from tvm import relax

    operands = _plain_operands(dtype, n, k)
    module = _dequantize_matmul(dtype, m, n, k, operands)
    executable = tvm.compile(module, target=tvm.target.Target(dict(level.llvm)))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    x = tvm.runtime.tensor(np.ones((m, k), np.float32))
    sets = [[tvm.runtime.tensor(a) for a in copy] for copy in rotated(operands)]
    rounds = QUICK_ROUNDS if m == 1 else 1
    return time_calls(lambda w: machine["main"](x, *w), sets, QUICK_SECONDS, rounds)[0]


def _plain_operands(dtype: DType, n: int, k: int) -> list[np.ndarray]:
    """Codes as bytes, scales and zero points as float32."""
    codes, scale, *rest = random_weight(dtype, n, k)
    kind = np.uint8 if dtype.levels or dtype.element.low >= 0 else np.int8
    zero = [rest[0].astype(np.float32)] if dtype.zero_point else []
    book = [np.nan_to_num(dtype.element.values, nan=0.0)] if dtype.levels else []
    return [codes.astype(kind), scale.astype(np.float32), *zero, *book]


def _dequantize_matmul(dtype: DType, m: int, n: int, k: int, operands: list[np.ndarray]) -> Any:
    """The Relax module: x [m, k] and the operands -> x @ decoded.T."""
    from tvm import relax

    builder, op = relax.BlockBuilder(), relax.op
    names = ["x", "codes", "scale", *(["zero"] if dtype.zero_point else []), "book"]
    arrays = [np.empty((m, k), np.float32), *operands]
    params = [
        relax.Var(name, relax.TensorType(array.shape, str(array.dtype)))
        for name, array in zip(names, arrays, strict=False)
    ]
    x, codes, scale, *rest = params
    groups, size = dtype.groups(k), dtype.group_size(k)
    with builder.function("main", params):
        with builder.dataflow():
            if dtype.levels:
                flat = op.reshape(op.astype(codes, "int32"), (n * k,))
                value = op.reshape(op.take(rest[-1], flat, axis=0), (n, groups, size))
            else:
                value = op.reshape(op.astype(codes, "float32"), (n, groups, size))
            if dtype.zero_point:
                value = op.subtract(value, op.expand_dims(rest[0], 2))
            weight = op.reshape(op.multiply(value, op.expand_dims(scale, 2)), (n, k))
            y = builder.emit_output(op.matmul(x, op.permute_dims(weight)))
        builder.emit_func_output(y)
    return builder.get()
