"""Folding: dividing the channels of a value in the parameters of the nodes that compute it.

The search goes up from the value to a norm, a constant factor or a linear product, whose parameters
are divided. Operators on the way must keep channels apart and be linear in them. A divisor has the
rank of its value, and size 1 along every axis that it does not depend on (tokens, the batch).
Divisors are powers of two, so that folding changes no bit of other values.

    y = RMSNormalization(x, w) / s     -->  RMSNormalization(x, w / s)      and its bias
    y = (a * (x W)) / s                -->  a * (x (W / s))                 gated feed-forward
    y = Attention(q, k, x W) / s       -->  Attention(q, k, x (W / s))      the heads' channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

import numpy as np
import onnx_ir as ir

from ladder.ir.site import Site, constant_of
from ladder.ir.states import next_name

NORMS = ("RMSNormalization", "LayerNormalization")
HOMOGENEOUS = ("Identity", "Relu", "LeakyRelu")  # f(x / s) = f(x) / s for s > 0
Edit = Callable[[], None]


class NotFoldableError(Exception):
    """The reason why a divisor cannot be folded, in a few words."""


class Tied(Exception):
    """Channels that must have one divisor, because they are one channel further up."""

    def __init__(self, groups: np.ndarray) -> None:
        super().__init__()
        self.groups = groups  # [groups, channels]: indices into the divisor


class Folding:
    """Ways to divide channels of values of one graph; nothing changes until ``edits`` are run."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._sites = {id(site.node): site for site in sites}

    def readers(self, value: ir.Value) -> list[Site]:
        """The products that read ``value``, each with its own weight; other readers are refused."""
        if value.is_graph_output():
            raise NotFoldableError(f"'{value.name}' is an output of the model")
        found = []
        for node, index in value.uses():
            site = self._sites.get(id(node))
            if site is None or index != 0 or site.window is not None:
                raise NotFoldableError(f"{node.op_type} also reads '{value.name}'")
            if len(weight_users(site)) != 1:
                raise NotFoldableError(f"the weight of {site.name} has other users")
            found.append(site)
        return found

    def multiplied(self, site: Site, factor: np.ndarray) -> Edit:
        """The edit that multiplies the columns [K] of a weight."""
        wide = factor[:, None] if site.transposed else factor
        return lambda: put(site.weight, array_of(site.weight) * wide)

    def ties(self, value: ir.Value, k: int) -> np.ndarray:
        """Channels of ``value`` that need one divisor: [groups, channels]; raises if none folds."""
        try:
            self.edits(value, np.arange(1, k + 1, dtype=np.float32))
        except Tied as tied:
            return tied.groups.astype(np.int64) - 1
        return np.arange(k)[:, None]

    def edits(self, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """The edits that divide ``value`` by ``divisor`` [K] along its last axis."""
        rank = len(value.shape) if value.shape is not None else 1
        return self._up(value, divisor.reshape([1] * (rank - 1) + [-1]))

    def _up(self, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        node = value.producer()
        if node is None:
            raise NotFoldableError(f"'{value.name}' is an input of the model")
        if id(node) in self._sites:
            return self._linear(self._sites[id(node)], divisor)
        if node.domain not in ("", "ai.onnx"):
            raise NotFoldableError(f"'{value.name}' is made by {node.domain}.{node.op_type}")
        if node.op_type in NORMS:
            return self._norm(node, divisor)
        step = getattr(self, f"_{node.op_type.lower()}", None)
        if node.op_type in HOMOGENEOUS:
            return self._only(node, 0, divisor)
        if step is None or node.op_type not in STEPS:
            raise NotFoldableError(f"{node.op_type} is not linear in each channel")
        if value.shape is None or len(value.shape) != divisor.ndim:
            raise NotFoldableError(f"the rank of '{value.name}' is not known")
        found: list[Edit] = step(node, value, divisor)
        return found

    def _only(self, node: ir.Node, index: int, divisor: np.ndarray) -> list[Edit]:
        """Divide an input that no other node reads."""
        value = node.inputs[index]
        assert value is not None
        if len(value.uses()) != 1 or value.is_graph_output():
            raise NotFoldableError(f"'{value.name}', an input of {node.op_type}, is read twice")
        return self._up(value, divisor)

    def _norm(self, node: ir.Node, divisor: np.ndarray) -> list[Edit]:
        found = [_divided(node, i, divisor) for i in range(1, len(node.inputs)) if node.inputs[i]]
        if not found:
            raise NotFoldableError(f"{node.op_type} has no weight")
        return found

    def _linear(self, site: Site, divisor: np.ndarray) -> list[Edit]:
        if site.node.op_type not in ("MatMul", "Gemm"):
            raise NotFoldableError(f"{site.node.op_type} is not linear in each channel")
        if len(weight_users(site)) != 1:
            raise NotFoldableError(f"the weight of {site.name} has other users")
        rows = _vector(divisor, site.n)
        column = rows if site.transposed else rows[:, None]
        edits: list[Edit] = [lambda: put(site.weight, array_of(site.weight) / column)]
        if len(site.node.inputs) > 2 and site.node.inputs[2] is not None:
            edits.append(_divided(site.node, 2, rows))
        return edits

    def _mul(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Divide a constant factor, or whichever factor can be divided."""
        reasons = []
        for index in (0, 1):
            if constant_of(node.inputs[index]) is not None:
                return [_divided(node, index, divisor)]
        for index in (1, 0):
            factor = node.inputs[index]
            if factor is None or not _same_rank(factor, value):
                reasons.append("a factor has another rank")
                continue
            try:
                return self._only(node, index, divisor)
            except NotFoldableError as error:
                reasons.append(str(error))
        raise NotFoldableError("; ".join(reasons))

    def _div(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        if node.inputs[0] is None or not _same_rank(node.inputs[0], value):
            raise NotFoldableError("the dividend has another rank")
        return self._only(node, 0, divisor)

    def _add(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Divide a bias and what it is added to, or both terms."""
        edits: list[Edit] = []
        for index in (0, 1):
            term = node.inputs[index]
            if constant_of(term) is not None:
                edits.append(_divided(node, index, divisor))
            elif term is None or not _same_rank(term, value):
                raise NotFoldableError("a term has another rank")
            else:
                edits += self._only(node, index, divisor)
        return edits

    def _transpose(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        perm = node.attributes.get("perm")
        axes = list(perm.as_ints()) if perm is not None else list(range(divisor.ndim))[::-1]
        return self._only(node, 0, divisor.transpose(np.argsort(axes)))

    def _reshape(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Channels may be split into heads or joined again, but not mixed with tokens."""
        source = node.inputs[0]
        assert source is not None
        first = next((i for i, size in enumerate(divisor.shape) if size > 1), divisor.ndim)
        inner, outer = _tail(value, first), source.shape
        if inner is None or outer is None:
            raise NotFoldableError("a Reshape of unknown sizes")
        size = prod(inner)
        for axis in range(len(outer), -1, -1):
            tail = _tail(source, axis)
            if tail is not None and prod(tail) == size:
                spread = np.broadcast_to(divisor.reshape(divisor.shape[first:]), inner)
                return self._only(node, 0, _narrow(spread.reshape([1] * axis + list(tail))))
        raise NotFoldableError("a Reshape that mixes channels with tokens")

    def _unsqueeze(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        axes = constant_of(node.inputs[1] if len(node.inputs) > 1 else None)
        if axes is None or any(divisor.shape[axis] > 1 for axis in axes.numpy().reshape(-1)):
            raise NotFoldableError("an Unsqueeze of unknown axes")
        return self._only(node, 0, divisor.squeeze(tuple(axes.numpy().reshape(-1).tolist())))

    def _expand(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Copies of one channel are tied to one divisor."""
        source = node.inputs[0]
        if source is None or not _same_rank(source, value):
            raise NotFoldableError("an Expand of unknown sizes")
        for axis, size in enumerate(source.shape or ()):
            if size == 1 and divisor.shape[axis] > 1:
                copies = np.moveaxis(divisor, axis, -1)
                if not (copies == copies[..., :1]).all():
                    raise Tied(copies.reshape(-1, copies.shape[-1]))
                divisor = np.take(divisor, [0], axis)
        return self._only(node, 0, divisor)

    def _slice(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        axes = constant_of(node.inputs[3] if len(node.inputs) > 3 else None)
        if axes is None or any(divisor.shape[axis] > 1 for axis in axes.numpy().reshape(-1)):
            raise NotFoldableError("a Slice along the channels")
        return self._only(node, 0, divisor)

    def _split(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Divide the part of the whole that ``value`` is."""
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        sizes = []
        for out in node.outputs:
            tail = _tail(out, axis if axis < 0 else axis - divisor.ndim)
            sizes.append(tail[0] if tail else 0)
        if 0 in sizes:
            raise NotFoldableError("a Split of unknown sizes")
        own = list(node.outputs).index(value)
        shape = list(divisor.shape)
        whole = []
        for i, size in enumerate(sizes):
            shape[axis] = size
            whole.append(np.broadcast_to(divisor if i == own else np.float32(1), shape))
        return self._only(node, 0, np.concatenate(whole, axis))

    def _tensorscatter(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """A cache: its initial contents are divided in the same way."""
        return self._only(node, 1, divisor)

    def _attention(self, node: ir.Node, value: ir.Value, divisor: np.ndarray) -> list[Edit]:
        """Each of G value heads serves H/G heads: those share their divisors."""
        held, shape, whole = node.inputs[2], static_heads(node.inputs[2]), static_heads(value)
        if held is None or shape is None or whole is None or divisor.shape[2] != 1:
            raise NotFoldableError("an Attention of unknown heads")
        heads, (groups, size) = whole[0], shape
        by_group = np.broadcast_to(divisor, (1, heads, 1, size)).reshape(groups, -1, size)
        if not (by_group == by_group[:, :1]).all():
            raise Tied(by_group.transpose(0, 2, 1).reshape(groups * size, -1))
        cache = held.producer()
        scattered = cache is not None and cache.op_type == "TensorScatter"
        if len(held.uses()) != 1 or (held.is_graph_output() and not (scattered and _state(cache))):
            raise NotFoldableError(f"'{held.name}' is read twice")
        return self._up(held, by_group[:, 0].reshape(1, groups, 1, size))


STEPS = frozenset(
    {"Mul", "Div", "Add", "Transpose", "Reshape", "Unsqueeze", "Expand", "Slice", "Split"}
    | {"TensorScatter", "Attention"}
)


def weight_users(site: Site) -> list[ir.Node]:
    """The nodes that read a site's weight, also through its transpose."""
    users: list[ir.Node] = []
    for node, _ in site.weight.uses():
        if node.op_type == "Transpose" and node is not site.node:
            users += [user for user, _ in node.outputs[0].uses()]
        else:
            users.append(node)
    return users


def array_of(value: ir.Value) -> np.ndarray:
    """The array of a constant."""
    tensor = constant_of(value)
    assert tensor is not None
    return tensor.numpy()


def put(value: ir.Value, array: np.ndarray) -> None:
    """Replace the array of a constant."""
    array = np.ascontiguousarray(array, np.float32)
    tensor = ir.tensor(array, name=value.name)
    node = value.producer()
    if node is None:
        value.const_value = tensor
    else:
        node.attributes["value"] = ir.AttrTensor("value", tensor)
    value.shape = ir.Shape(array.shape)


def _divided(node: ir.Node, index: int, divisor: np.ndarray) -> Edit:
    """Divide a parameter that is the node's own."""
    value = node.inputs[index]
    tensor = constant_of(value)
    if value is None or tensor is None:
        raise NotFoldableError(f"a parameter of {node.op_type} is computed")
    if tensor.dtype != ir.DataType.FLOAT:
        raise NotFoldableError(f"a parameter of {node.op_type} is {tensor.dtype.name}")
    if len(value.uses()) != 1 or value.is_graph_output():
        raise NotFoldableError(f"'{value.name}' has other users")
    return lambda: put(value, _leading_ones_off(tensor.numpy() / divisor, len(tensor.shape)))


def _narrow(divisor: np.ndarray) -> np.ndarray:
    """The divisor with size 1 along every axis along which it is constant."""
    for axis in range(divisor.ndim):
        first = np.take(divisor, [0], axis)
        if (divisor == first).all():
            divisor = first
    return divisor


def _leading_ones_off(array: np.ndarray, rank: int) -> np.ndarray:
    """The array without leading axes of size 1 beyond ``rank``."""
    while array.ndim > max(rank, 1) and array.shape[0] == 1:
        array = array[0]
    return array


def _vector(divisor: np.ndarray, n: int) -> np.ndarray:
    """The divisor as [N], if it only varies along the last axis."""
    if divisor.size not in (1, n) or divisor.shape[-1] != divisor.size:
        raise NotFoldableError("the divisor varies along more than the rows of a weight")
    return np.broadcast_to(divisor.reshape(-1), n)


def _same_rank(a: ir.Value, b: ir.Value) -> bool:
    return a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape)


def _tail(value: ir.Value, first: int) -> tuple[int, ...] | None:
    """The sizes of the axes from ``first`` on, if they are known."""
    if value.shape is None:
        return None
    dims = tuple(value.shape)[first:]
    return tuple(dims) if all(isinstance(d, int) for d in dims) else None  # type: ignore[arg-type]


def static_heads(value: ir.Value | None) -> tuple[int, int] | None:
    """Heads and channels of [B, heads, tokens, channels]."""
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    heads, size = value.shape[1], value.shape[3]
    return (heads, size) if isinstance(heads, int) and isinstance(size, int) else None


def _state(node: ir.Node | None) -> bool:
    """Whether a TensorScatter writes a state: an input that no other node reads, and its output."""
    assert node is not None
    before, after = node.inputs[0], node.outputs[0]
    own = before is not None and before.is_graph_input() and len(before.uses()) == 1
    return own and before is not None and after.name == next_name(before.name or "")
