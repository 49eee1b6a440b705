"""Lower low-bit products to integer kernels: quantized or tabulated activations, then a GEMM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import dialect, facts, mux_bodies, rungs
from ladder.ir.activation import (
    FLOAT,
    QUANTIZED,
    STATIC,
    TABLE8,
    block_of,
    check,
    overload,
    table_mode,
)
from ladder.ir.dtype import DType
from ladder.ir.facts import (
    KernelChoice,
    Kernels,
    Machine,
    MuxedSite,
    Muxing,
    Stacked,
    StaticScales,
)
from ladder.ir.mux import Mux
from ladder.ir.names import add_initializer
from ladder.ir.shapes import static_shape
from ladder.ir.site import SCHEME_KEY, SITE_KEY
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.kernel_choice import LUT, SCHEMES, TILE, choose, no_tiles

PARTS = {
    "QuantizeActivation": ("q", "q_scale", "q_total"),
    "MuxActivation": ("q", "aux", "q_scale", "q_total"),
    "TabulateActivation": ("table",),
    "PrecomputeTable": ("table8", "table8_scale", "table8_total"),
}


@dataclass(frozen=True)
class Product:
    """One LowBitMatMul, and what is known about its site."""

    node: ir.Node
    dtype: DType
    k: int
    site: str
    scale: float | None  # of static codes
    muxed: MuxedSite | None

    @property
    def mux(self) -> Mux | None:
        return Mux.parse(self.muxed.mux) if self.muxed else None


@dataclass(frozen=True)
class LowerTypes(Pass):
    """Choose the integer form of every LowBitMatMul and replace it by that form.

    ``activation`` is the numeric mode (``ladder.ir.activation``); ``fp32`` leaves products as
    they are: only weights are rounded. ``scheme`` is ``lut``, ``dot``, ``tile`` or ``auto``, which
    chooses by the fact Machine (measured times, else a rule). Every scheme gives the same integers.
    ``stop`` shows the rungs of weights down to ``planes``, ``pad`` or ``repack`` as operators and
    their inverses. With ``sites``, only products of these are lowered.

        %y = LowBitMatMul[t](%x, %w...)
          -->  %q, %s, %n = QuantizeActivation[k128](%x)      shared by all users of %x
               %t = TabulateActivation[k128](%q)              lut only, shared
               %y = LutGemm[int8:t](%t, %s, %n, %w...)  or  DotGemm[t](%q, %s, %n, %w...)

    Where the fact Muxing names outlier channels of the site (``ladder.ir.mux``):

          -->  %q, %a, %s, %n = MuxActivation[int8:tensor:digits7:k4096](%x, %channels)    shared
               %y = MuxGemm[digits7:t@k4096](%q, %a, %s, %n, %channels, %w...)

    Static modes take their scales from the fact StaticScales.
    """

    activation: str = "int8"
    scheme: str = "auto"
    stop: str = ""
    sites: tuple[str, ...] = ()
    gives: ClassVar[Facts] = (Kernels,)

    def run(self, model: ir.Model) -> None:
        check(self.activation)
        for what, value, known in (
            ("scheme", self.scheme, SCHEMES),
            ("stop", self.stop, ("", *rungs.DOWN)),
        ):
            if value not in known:
                listed = ", ".join(filter(None, known))
                raise LadderError(f"unknown {what} '{value}'; one of: {listed}")
        machine = facts.get(model, Machine) or Machine()
        stacked = facts.get(model, Stacked) or Stacked()
        before = facts.get(model, Kernels)
        kernels = dict(before.choices) if before else {}
        made = Made()
        for node in list(model.graph.all_nodes()):
            if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul":
                site = node.metadata_props.get(SITE_KEY, node.name or "")
                if self.sites and site not in self.sites:
                    continue
                sites = stacked.sites.get(site, (site,))
                product, chosen = self._chosen(model, node, sites, machine)
                kernels.update(dict.fromkeys(sites, chosen))
                if chosen.scheme != FLOAT:
                    self._lower(product, chosen, made)
        facts.put(model, Kernels(kernels))
        dialect.install(model)

    def _chosen(
        self, model: ir.Model, node: ir.Node, sites: Sequence[str], machine: Machine
    ) -> tuple[Product, KernelChoice]:
        """A product, muxed where possible, and its kernel; the reason covers both."""
        dtype, mode = DType.parse(node.overload), check(self.activation)
        _n, k = static_shape(node.inputs[1]) or (0, 0)
        muxed, why = muxed_of(model, sites, mode, dtype, k)
        product = Product(node, dtype, k, sites[0], static_scale(model, sites), muxed)
        tiles = no_tiles(dtype, mode, k, muxed is not None)
        chosen = choose(dtype, mode, tokens_of(node.inputs[0]), machine, self.scheme, tiles)
        reason = "; ".join(filter(None, (why, chosen.reason)))
        return product, KernelChoice(chosen.scheme, chosen.activation, reason)

    def _lower(self, product: Product, chosen: KernelChoice, made: Made) -> None:
        node, dtype, mode = product.node, product.dtype, chosen.activation
        block = block_of(dtype, mode, product.k)
        text = dialect.product_overload(dtype, block)
        if product.mux is not None:
            op, text, operands = "MuxGemm", f"{product.mux}:{text}", _muxed(product, mode, made)
        elif chosen.scheme == LUT:
            op, text = "LutGemm", f"{table_mode(mode)}:{text}"
            operands = _tables(product, mode, block, made)
        else:
            op, operands = "DotGemm", _codes(product, mode, block, made)
        codes, *rest = node.inputs[1:]
        assert codes is not None
        codes = self._weight_way(codes, dtype, node, made)
        out = ir.Value(
            name=node.outputs[0].name, type=node.outputs[0].type, shape=node.outputs[0].shape
        )
        new = dialect.node(op, text, [*operands, codes, *rest], [out])
        new.name = node.name
        new.metadata_props.update(node.metadata_props)
        if chosen.scheme == TILE or op == "MuxGemm":
            # the same operator: the scheme does not change its meaning
            new.metadata_props[SCHEME_KEY] = chosen.scheme
        _replace_node(node, new)

    def _weight_way(self, codes: ir.Value, dtype: DType, node: ir.Node, made: Made) -> ir.Value:
        """The rungs to show between the codes and the product, and the code book."""
        n, k = static_shape(codes) or (0, 0)
        steps = list(rungs.DOWN)
        shown = steps[: steps.index(self.stop) + 1] if self.stop else []
        text = f"{dtype}@{n}x{k}"
        for op in [*(rungs.DOWN[s] for s in shown), *(rungs.UP[s] for s in reversed(shown))]:
            (codes,) = made.shared(op, text, [codes], node)
        if dtype.levels:
            digits = len(dtype.levels.digits)
            (codes,) = made.shared(rungs.LOOK_UP, str(dtype), [codes], node)
            codes.shape = ir.Shape((digits, n, k))
        elif shown:
            codes.shape = ir.Shape((n, k))
        return codes


def tokens_of(x: ir.Value | None) -> int | None:
    """M: the product of all dimensions but the last, if they are known."""
    shape = static_shape(x)
    if shape is None:
        return None
    tokens = 1
    for size in shape[:-1]:
        tokens *= size
    return tokens


class Made:
    """Operators and constants that several products of one graph read; each is made once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], tuple[ir.Value, ...]] = {}
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    def shared(
        self, op: str, overload: str, inputs: Sequence[ir.Value], before: ir.Node
    ) -> tuple[ir.Value, ...]:
        """The outputs of ``op`` on ``inputs``."""
        key = (op, overload, id(before.graph), *(id(value) for value in inputs))
        if key in self._nodes:
            return self._nodes[key]
        if op in rungs.RUNGS:  # named after the weight, not after all the rungs before
            base = str(dialect.stored_codes(inputs[0]).name)
        else:
            base = ".".join([*(str(value.name) for value in inputs), overload])
        outputs = [ir.Value(name=f"{base}.{part}") for part in PARTS.get(op, (op,))]
        if op in rungs.RUNGS:
            outputs[0].type = ir.TensorType(rungs.result_type(op, overload))
        new = dialect.node(op, overload, inputs, outputs)
        new.name = f"{base}.{op}"
        assert before.graph is not None
        before.graph.insert_before(before, new)
        self._nodes[key] = tuple(outputs)
        return self._nodes[key]

    def constant(self, product: Product, part: str, array: np.ndarray) -> ir.Value:
        """An initializer; products of one activation that need equal ones share it."""
        x, graph = product.node.inputs[0], product.node.graph
        assert isinstance(graph, ir.Graph)
        key = (id(x), id(graph), part, array.tobytes())
        if key not in self._constants:
            self._constants[key] = add_initializer(graph, f"{product.site}.{part}", array)
        return self._constants[key]


def _activation_inputs(product: Product, mode: str, made: Made) -> list[ir.Value]:
    """x, and the scale of a static mode."""
    x, scale = product.node.inputs[0], product.scale
    assert x is not None
    if mode not in QUANTIZED or QUANTIZED[mode].granularity != STATIC:
        return [x]
    if scale is None:
        raise LadderError(
            f"site {product.site}: {mode} needs a calibrated scale; "
            "give a text with --calib, or use a dynamic mode"
        )
    return [x, made.constant(product, "activation_scale", np.array([scale], np.float32))]


def _codes(product: Product, mode: str, block: int, made: Made) -> tuple[ir.Value, ...]:
    inputs = _activation_inputs(product, mode, made)
    return made.shared("QuantizeActivation", overload(mode, block), inputs, product.node)


def _tables(product: Product, mode: str, block: int, made: Made) -> tuple[ir.Value, ...]:
    text, node = overload(mode, block), product.node
    if mode == TABLE8:
        return made.shared("PrecomputeTable", text, _activation_inputs(product, mode, made), node)
    q, *others = _codes(product, mode, block, made)
    return *made.shared("TabulateActivation", text, [q], node), *others


def _muxed(product: Product, mode: str, made: Made) -> tuple[ir.Value, ...]:
    """The operands of MuxGemm before its weight."""
    assert product.muxed is not None and product.mux is not None
    x, *static = _activation_inputs(product, mode, made)
    channels = made.constant(product, "outliers", np.array(product.muxed.channels, np.int64))
    block = block_of(product.dtype, mode, product.k)
    text = mux_bodies.activation_overload(mode, product.mux, block)
    parts = made.shared("MuxActivation", text, [x, channels, *static], product.node)
    return *parts, channels


def muxed_of(
    model: ir.Model, sites: Sequence[str], mode: str, dtype: DType, k: int
) -> tuple[MuxedSite | None, str]:
    """How the product of ``sites`` is muxed, which must be the same for all; and a note."""
    fact = facts.get(model, Muxing) or Muxing()
    found = {site: fact.sites[site] for site in sites if site in fact.sites}
    if not found:
        return None, ""
    first = next(iter(found.values()))
    if len(found) < len(sites) or any(
        (m.mux, m.channels) != (first.mux, first.channels) for m in found.values()
    ):
        return None, "not muxed: its stacked sites are muxed in different ways"
    why = Mux.parse(first.mux).refuse(mode, dtype, k, len(first.channels))
    if why is not None:
        return None, f"not muxed: {why}"
    return first, f"{len(first.channels)} outlier channels muxed ({first.mux})"


def static_scale(model: ir.Model, sites: Sequence[str]) -> float | None:
    """The largest of the calibrated scales of sites that read one activation."""
    fact = facts.get(model, StaticScales) or StaticScales()
    return max((fact.scales[site] for site in sites if site in fact.scales), default=None)


def _replace_node(old: ir.Node, new: ir.Node) -> None:
    graph = old.graph
    assert graph is not None
    graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(old, safe=True)
