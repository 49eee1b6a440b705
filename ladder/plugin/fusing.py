"""Decomposed normalizations and attention become one operator each, as in Ladder's own passes.

x * rsqrt(mean(x^2) + eps) * w                      -->  nn.rms_norm(x, w)
softmax(q c @ (k c)^T + where(mask, 0, -inf)) @ v   -->  ladder.attention(q, k, v, mask)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tvm import relax

from ladder.codegen.layout import LANES
from ladder.plugin import operators
from ladder.plugin.match import Reader, static_dims
from ladder.plugin.mutate import Make, Rewriter, functions
from ladder.plugin.sites import scoped_bindings


def fuse_module(mod: Any) -> Any:
    """``mod`` with normalizations and attention as operators where they were decomposed."""
    made: dict[Any, Make] = {}
    for _, func in functions(mod):
        found = scoped_bindings(func.body)
        reader = Reader(found)
        for _, binding in found:
            for match in (_rms_norm, _attention, _attention_of_tvm):
                make = match(reader, binding.value)
                if make is not None:
                    made[binding.var] = make
                    break
    return Rewriter(mod, made).rewritten() if made else mod


def _pairs(call: Any) -> Iterator[tuple[Any, Any]]:
    """The operands of a commutative operator, in both orders."""
    a, b = call.args
    yield a, b
    yield b, a


def _rms_norm(reader: Reader, value: Any) -> Make | None:
    outer = reader.call(value, "relax.multiply")
    for weight, normal in _pairs(outer) if outer is not None else ():
        inner = reader.call(normal, "relax.multiply")
        for x, factor in _pairs(inner) if inner is not None else ():
            epsilon = _mean_square(reader, factor, x)
            dims = static_dims(weight)
            if epsilon is not None and dims is not None and dims == (static_dims(x) or ())[-1:]:
                return lambda new, x=x, w=weight, e=epsilon: relax.op.nn.rms_norm(  # type: ignore[misc]
                    new.new(x), new.new(w), axes=[-1], epsilon=e
                )
    return None


def _mean_square(reader: Reader, factor: Any, x: Any) -> float | None:
    """The epsilon, if ``factor`` is rsqrt(mean(x^2) + epsilon) over the last axis."""
    root = reader.call(factor, "relax.rsqrt")
    total = reader.call(root.args[0], "relax.add") if root is not None else None
    for mean, epsilon in _pairs(total) if total is not None else ():
        number, call = reader.number(epsilon), reader.call(mean, "relax.mean")
        if number is None or call is None or not call.attrs.keepdims:
            continue
        last = [int(a) % x.ty.ndim for a in call.attrs.axis or ()] == [x.ty.ndim - 1]
        if last and _is_square(reader, call.args[0], x):
            return number
    return None


def _is_square(reader: Reader, expr: Any, x: Any) -> bool:
    call = reader.call(expr, "relax.power", "relax.multiply", "relax.square")
    if call is None or not call.args[0].same_as(x):
        return False
    if call.op.name == "relax.power":
        return reader.number(call.args[1]) == 2.0
    return len(call.args) == 1 or bool(call.args[1].same_as(x))


def _attention(reader: Reader, value: Any) -> Make | None:
    """torch.export's decomposition of scaled_dot_product_attention, at its last product."""
    product = reader.call(value, "relax.matmul")
    softmax = _softmax(reader, product.args[0]) if product is not None else None
    if softmax is None or int(softmax.attrs.axis) not in (-1, softmax.ty.ndim - 1):
        return None
    scores, bias = _scores(reader, softmax.args[0])
    if scores is None:
        return None
    query = _scaled(reader, scores.args[0])
    key = _scaled(reader, scores.args[1])
    turned = reader.through_copies(key[0], "relax.permute_dims") if key is not None else None
    values = reader.as_rank(product.args[1], 4)
    if query is None or key is None or turned is None or values is None:
        return None
    if [int(a) for a in turned.attrs.axes or ()] != [0, 1, 3, 2]:
        return None
    mask = None if bias is None else _mask(reader, bias)
    parts = [query[0], turned.args[0], values]
    if (bias is not None and mask is None) or not _fits(parts, mask):
        return None
    return _attention_maker(parts, mask, query[1] * key[1], value)


def _softmax(reader: Reader, expr: Any) -> Any:
    """A softmax, or one that gives zeros for rows that are fully masked."""
    safe = reader.through_copies(expr, "relax.where")
    if safe is None:
        return reader.through_copies(expr, "relax.nn.softmax")
    softmax = reader.call(safe.args[2], "relax.nn.softmax")
    condition = safe.args[0]
    while reader.call(condition, "relax.logical_not", "relax.astype", "relax.max") is not None:
        condition = reader.value(condition).args[0]
    equal = reader.call(condition, "relax.equal")
    if softmax is None or equal is None or not equal.args[0].same_as(softmax.args[0]):
        return None
    return softmax if reader.number(equal.args[1]) == -np.inf else None


def _scores(reader: Reader, expr: Any) -> tuple[Any, Any]:
    """(product of queries and keys, the bias that is added to it or None)."""
    product = reader.through_copies(expr, "relax.matmul")
    if product is not None:
        return product, None
    total = reader.call(expr, "relax.add")
    for scores, bias in _pairs(total) if total is not None else ():
        product = reader.through_copies(scores, "relax.matmul")
        if product is not None:
            return product, bias
    return None, None


def _scaled(reader: Reader, expr: Any) -> tuple[Any, float] | None:
    call = reader.through_copies(expr, "relax.multiply")
    return reader.times(call) if call is not None else None


def _mask(reader: Reader, bias: Any) -> Any:
    """The condition of where(mask, 0, -inf)."""
    call = reader.through_copies(bias, "relax.where")
    if call is None:
        return None
    kept, hidden = reader.number(call.args[1]), reader.number(call.args[2])
    return call.args[0] if (kept, hidden) == (0.0, -np.inf) else None


def _fits(parts: list[Any], mask: Any) -> bool:
    """Whether the kernel supports them: one sequence, head size a multiple of 16, one mask."""
    dims = [static_dims(part) or () for part in parts]
    if any(len(d) != 4 or d[0] != 1 or d[3] % LANES for d in dims):
        return False
    (_, heads, s, d), keys, values = dims
    if keys != values or keys[3] != d or heads % keys[1]:
        return False
    return mask is None or int(np.prod(static_dims(mask) or (0,))) == s * keys[2]


def _attention_maker(parts: list[Any], mask: Any, scale: float, value: Any) -> Make:
    dims = [static_dims(part) or () for part in parts]
    s, c, d = dims[0][2], dims[1][2], dims[0][3]
    if abs(scale * d**0.5 - 1) < 1e-6:  # torch multiplies both operands by its root
        scale = d**-0.5

    def make(new: Rewriter) -> Any:
        emit = new.builder_.emit
        if mask is None:
            seen = relax.const(np.ones((1, 1, s, c), bool))
        else:
            seen = emit(relax.op.reshape(new.new(mask), (1, 1, s, c)))
        out = emit(operators.attention([new.new(part) for part in parts], seen, scale))
        return relax.op.reshape(out, static_dims(value))

    return make


def _attention_of_tvm(reader: Reader, value: Any) -> Make | None:
    """relax.nn.attention without a bias: [1, S, heads, D] each."""
    call = reader.call(value, "relax.nn.attention")
    if call is None or call.attrs.window_size is not None:
        return None
    dims = [static_dims(arg) for arg in call.args[:3]]
    if any(d is None or d[0] != 1 or d[3] % LANES or d != dims[1] for d in dims[1:]):
        return None
    return None if dims[0] is None or dims[0][0] != 1 else _from_tvm(call, dims[0], dims[1])


def _from_tvm(call: Any, query: tuple[int, ...], key: Any) -> Make | None:
    s, c, d = query[1], key[1], query[3]
    causal = str(call.attrs.causal_mask or "")
    seen = np.ones((s, c), bool)
    if causal:
        seen = np.tril(seen, 0 if causal == "TopLeft" else c - s)
    scale = d**-0.5 if call.attrs.scale is None else float(call.attrs.scale)

    def make(new: Rewriter) -> Any:
        emit = new.builder_.emit
        swap = [0, 2, 1, 3]
        parts = [emit(relax.op.permute_dims(new.new(a), swap)) for a in call.args[:3]]
        mask = relax.const(seen.reshape(1, 1, s, c))
        out = emit(operators.attention(parts, mask, scale))
        return relax.op.permute_dims(out, swap)

    return make
