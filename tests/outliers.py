"""A hard case for activations: outlier channels as in GPT-2, in a model that has few.

Chosen channels of a norm's output are made 20 to 200 times larger, and the weights that follow are
divided by the same factors. The model computes the same as before, but its activations are harder
to round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.outliers import Activations
from ladder.ir.site import Site, constant_of, find_sites

NORMS = ("RMSNormalization", "LayerNormalization")
SAME_CHANNELS = ("Slice", "Identity")
LEAST, MOST = 20.0, 200.0
TIMES = 20  # the smallest outlier channel, as a multiple of the typical channel


@dataclass(frozen=True)
class Prepared:
    """The prepared model, and for each norm (by its weight) the channels and their factors."""

    source: Source
    channels: dict[str, np.ndarray]
    factors: dict[str, np.ndarray]


def prepare(source: Source, known: Activations, count: int = 3) -> Prepared:
    """Give ``count`` outlier channels to every norm that only products read.

    The logarithms of factors are spread evenly from 20 to 200. Each factor goes to the smallest
    channel (by its root mean square in ``known``) that becomes ``TIMES`` as large as the typical
    one. Small channels are best, because the weights of a channel are divided by its factor and
    nearly vanish among the integers of their row, but the tests are about the error of activations.
    A norm does not change if another node reads it, or if a weight has other users.
    """
    model = facts.clone(source.model)
    sites = find_sites(model)[0]
    channels, factors = {}, {}
    by = np.geomspace(MOST, LEAST, count).astype(np.float32)
    for node in model.graph:
        followers = _followers(node, sites) if node.op_type in NORMS else []
        if followers:
            gain = node.inputs[1]
            chosen = _quietest(np.load(known.files[followers[0].name]), by)
            for parameter in node.inputs[1:]:
                _scale(parameter, chosen, by)
            for site in followers:
                _divide(site, chosen, by)
            assert gain is not None
            channels[str(gain.name)], factors[str(gain.name)] = chosen, by
    said = f"{source.digest}-outliers-{count}"
    return Prepared(replace(source, model=model, digest=said), channels, factors)


def _quietest(seen: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A different channel for each factor."""
    largest, power = seen[0], np.square(seen[1:]).mean(0)
    typical = float(np.median(largest))
    chosen: list[int] = []
    for factor in factors:
        loud = largest * factor >= TIMES * typical
        loud[chosen] = False
        chosen.append(int(np.argmin(np.where(loud, power, np.inf))))
    return np.array(chosen)


def _followers(norm: ir.Node, sites: Sequence[Site]) -> list[Site]:
    """The products that read a norm; none if another node reads it or shares their weights."""
    by_node = {id(site.node): site for site in sites}
    shared = {id(s.weight) for s in sites if sum(o.weight is s.weight for o in sites) > 1}
    found, todo = [], [norm.outputs[0]]
    while todo:
        value = todo.pop()
        if value.is_graph_output():
            return []
        for node, index in value.uses():
            site = by_node.get(id(node))
            if site is not None and index == 0 and id(site.weight) not in shared:
                found.append(site)
            elif node.op_type in SAME_CHANNELS and index == 0:
                todo.append(node.outputs[0])
            else:
                return []
    return found


def _array(value: ir.Value) -> np.ndarray:
    tensor = constant_of(value)
    assert tensor is not None
    return np.array(tensor.numpy())


def _put(value: ir.Value, array: np.ndarray) -> None:
    value.const_value = ir.tensor(array, name=value.name)


def _scale(parameter: ir.Value | None, channels: np.ndarray, factors: np.ndarray) -> None:
    if parameter is not None:
        array = _array(parameter)
        array[channels] *= factors
        _put(parameter, array)


def _divide(site: Site, channels: np.ndarray, factors: np.ndarray) -> None:
    array = _array(site.weight)
    if site.transposed:
        array[channels] /= factors[:, None]
    else:
        array[:, channels] /= factors
    _put(site.weight, array)
