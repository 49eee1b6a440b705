"""Blocks: a model as a chain of parts between the cut points of its residual stream.

A *cut point* is a value through which every path from earlier to later nodes passes. There are
three kinds of nodes, and only the last kind is cut:

- constant: computed from weights and constants only, such as a transposed weight. It belongs to
  every block that reads it.
- side: computed from the graph's inputs without an operator that has a weight, such as masks and
  rotary tables. It is computed once and read by any block.
- main: everything that depends on an operator with a weight.

A state (key/value cache) is an input that one block reads and an output that no node reads, so it
never prevents a cut.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ladder.ir.site import constant_of, weighted_nodes

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
LARGEST_SHARE = 0.5  # of the nodes with weights in one piece; above it, try with carried values


@dataclass(frozen=True)
class Block:
    """One block of the chain.

    ``nodes`` are in order, constant nodes first. ``inputs`` come from earlier blocks: the residual
    stream, and values that are carried along it. ``sides`` are graph inputs and side values.
    ``weights`` are the initializers, in order of first use. ``outputs`` are read by later blocks or
    are outputs of the graph. Blocks with equal ``structure`` differ only in the values of weights,
    and their lists correspond one to one.
    """

    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    sides: tuple[ir.Value, ...]
    weights: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    structure: str


@dataclass(frozen=True)
class Chain:
    """The whole model. ``blocks[first:last]`` repeat, between a prologue and an epilogue.

    If nothing repeats, all blocks count as the middle. ``side`` has the nodes of side values.
    """

    blocks: tuple[Block, ...]
    side: Block
    first: int
    last: int

    @property
    def prologue(self) -> tuple[Block, ...]:
        return self.blocks[: self.first]

    @property
    def middle(self) -> tuple[Block, ...]:
        return self.blocks[self.first : self.last]

    @property
    def epilogue(self) -> tuple[Block, ...]:
        return self.blocks[self.last :]

    def block_of(self, node: ir.Node) -> int:
        """The number of the block that runs a main node or holds it in a subgraph."""
        for number, block in enumerate(self.blocks):
            if any(node is own or node in list(_inner_nodes(own)) for own in block.nodes):
                return number
        raise KeyError(node.name)


def find_blocks(model: ir.Model) -> Chain:
    """Cut the model into blocks; without a cut point, it is a single block."""
    kinds = _Kinds.of(model)
    pieces = _pieces(kinds, frozenset())
    if len(kinds.weighted) > 2 and _largest_share(pieces, kinds) > LARGEST_SHARE:
        # Some models (Zamba) feed the embedding to every layer, so there is no cut point.
        again = _pieces(kinds, frozenset(_first_cut(kinds)))
        pieces = again if len(again) > len(pieces) else pieces
    weighted = [any(node in kinds.weighted for node in piece) for piece in pieces]
    runs = _repeats([_block(piece, kinds).structure for piece in pieces], weighted)
    merged, repeated = _merged(pieces, weighted, runs)
    blocks = tuple(_block(nodes, kinds) for nodes in merged)
    # Blocks of equal pieces may differ: at first the stream is the carried value itself.
    counts = Counter(blocks[i].structure for i in repeated)
    equal = [i for i in repeated if counts[blocks[i].structure] > 1]
    begin, end = (equal[0], equal[-1] + 1) if equal else (0, len(blocks))
    return Chain(blocks, _block(list(kinds.side_nodes), kinds), begin, end)


@dataclass(frozen=True, eq=False)
class _Kinds:
    """The nodes by kind, each in graph order; ``weighted`` are those with a weight."""

    constant: frozenset[ir.Node]
    side_nodes: tuple[ir.Node, ...]
    main: tuple[ir.Node, ...]
    weighted: frozenset[ir.Node]
    place: dict[ir.Value, int]  # main value -> the index of its node in ``main``
    last_use: dict[ir.Value, int]  # main value -> the index of the last main node that reads it
    read_by: dict[ir.Value, list[ir.Node]]  # main or side value -> the main nodes that read it
    graph_outputs: frozenset[ir.Value]

    @staticmethod
    def of(model: ir.Model) -> _Kinds:
        inner = set(weighted_nodes(model))
        constant: set[ir.Node] = set()
        side: list[ir.Node] = []
        main: list[ir.Node] = []
        dependent: set[ir.Value] = set()
        weighted: set[ir.Node] = set()
        for node in model.graph:
            sources = [v for v in reads(node) if not _is_constant(v, constant)]
            has_weight = node in inner or any(n in inner for n in _inner_nodes(node))
            if has_weight:
                weighted.add(node)
            if has_weight or any(v in dependent for v in sources):
                main.append(node)
                dependent.update(node.outputs)
            elif sources or not _is_pure(node):
                side.append(node)
            else:
                constant.add(node)
        place = {v: i for i, node in enumerate(main) for v in node.outputs}
        last_use = {v: i for i, node in enumerate(main) for v in reads(node) if v in place}
        read_by: dict[ir.Value, list[ir.Node]] = {}
        for node in main:
            for value in reads(node):
                read_by.setdefault(value, []).append(node)
        return _Kinds(
            constant=frozenset(constant),
            side_nodes=tuple(side),
            main=tuple(main),
            weighted=frozenset(weighted),
            place=place,
            last_use=last_use,
            read_by=read_by,
            graph_outputs=frozenset(model.graph.outputs),
        )


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a node reads, also those that its subgraphs capture."""
    yield from (v for v in node.inputs if v is not None)
    inside: set[ir.Value] = set()
    for inner in _inner_nodes(node):
        inside.update(inner.outputs)
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            inside.update(graph.inputs)
            inside.update(graph.initializers.values())
            yield from (v for v in graph.outputs if v is not None and v not in inside)
    for inner in _inner_nodes(node):
        yield from (v for v in inner.inputs if v is not None and v not in inside)


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            yield from graph.all_nodes()


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []


def _is_constant(value: ir.Value, constant: set[ir.Node]) -> bool:
    producer = value.producer()
    return producer in constant if producer is not None else value.is_initializer()


def _is_pure(node: ir.Node) -> bool:
    return not node.op_type.startswith("Random")


def _pieces(kinds: _Kinds, carried: frozenset[ir.Value]) -> list[list[ir.Node]]:
    """The main nodes between cut points.

    One scan in any topological order finds every cut point: the nodes before it are exactly those
    that it depends on, so no other value is live after it.
    """
    pieces: list[list[ir.Node]] = [[]]
    live: set[ir.Value] = set()
    ends: dict[int, list[ir.Value]] = {}
    for value, at in kinds.last_use.items():
        ends.setdefault(at, []).append(value)
    for at, node in enumerate(kinds.main):
        pieces[-1].append(node)
        live.update(v for v in node.outputs if kinds.last_use.get(v, -1) > at)
        live.difference_update(ends.get(at, ()))
        if len(live) == 1 or len(live - carried) == 1:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _merged(
    pieces: list[list[ir.Node]], weighted: Sequence[bool], runs: list[tuple[int, int, int]]
) -> tuple[list[list[ir.Node]], list[int]]:
    """The nodes of each block, and which blocks repeat.

    Outside repetitions, a piece without a weight joins the next one (a norm belongs to the node
    that it feeds), or else the one before it.
    """
    merged: list[list[ir.Node]] = []
    repeated: list[int] = []
    waiting: list[ir.Node] = []
    alone = False  # whether the last block is a single piece that others may join
    for start, period, count in runs:
        if count == 1:
            waiting += pieces[start]
            if weighted[start]:
                merged.append(waiting)
                waiting, alone = [], True
            continue
        _settle(waiting, merged, alone)
        waiting, alone = [], False
        for at in range(start, start + period * count, period):
            repeated.append(len(merged))
            merged.append([node for piece in pieces[at : at + period] for node in piece])
    _settle(waiting, merged, alone)
    return merged, repeated


def _settle(waiting: list[ir.Node], merged: list[list[ir.Node]], alone: bool) -> None:
    """Add the last nodes, which have no weight, to the block before them, or make them a block."""
    if waiting and alone:
        merged[-1] += waiting
    elif waiting:
        merged.append(waiting)


def _largest_share(pieces: list[list[ir.Node]], kinds: _Kinds) -> float:
    counts = [sum(node in kinds.weighted for node in piece) for piece in pieces]
    return max(counts, default=0) / len(kinds.weighted)


def _first_cut(kinds: _Kinds) -> list[ir.Value]:
    """The carried value: the first output of a weighted operator that has a distant reader."""
    far = len(kinds.main) // 2
    for node in kinds.main:
        found = [v for v in node.outputs if kinds.last_use.get(v, 0) - kinds.place[v] > far]
        if found:
            return found
    return []


def _repeats(structures: Sequence[str], weighted: Sequence[bool]) -> list[tuple[int, int, int]]:
    """(start, period, count) in order, covering all; the longest repetition is found first.

    Of repetitions of equal length, it is the one with the shortest period, then the earliest. What
    repeats must have a weight.
    """
    best, found = 0, (0, 1, 1)
    size = len(structures)
    for period in range(1, size // 2 + 1):
        run = 0
        for at in range(size - period):
            run = run + 1 if structures[at] == structures[at + period] else 0
            length, end = (run // period + 1) * period, at + period + 1
            if run >= period and length > best and any(weighted[end - period : end]):
                best, found = length, (end - length, period, length // period)
    if best == 0:
        return [(i, 1, 1) for i in range(size)]
    start, end = found[0], found[0] + best
    after = _repeats(structures[end:], weighted[end:])
    return [
        *_repeats(structures[:start], weighted[:start]),
        found,
        *((s + end, p, c) for s, p, c in after),
    ]


def _block(main: list[ir.Node], kinds: _Kinds) -> Block:
    """The block of consecutive main nodes."""
    own = dict.fromkeys(v for node in main for v in node.outputs)
    constants = _constants(main, kinds)
    made = {*own, *(v for node in constants for v in node.outputs)}
    inputs: dict[ir.Value, None] = {}
    sides: dict[ir.Value, None] = {}
    weights: dict[ir.Value, None] = {}
    for value in (v for node in (*constants, *main) for v in reads(node)):
        if value in made:
            continue
        kind = weights if value.is_initializer() else inputs if value in kinds.place else sides
        kind[value] = None
    inside = {id(node) for node in main}
    outputs = [
        v
        for v in own
        if v in kinds.graph_outputs
        or any(id(node) not in inside for node in kinds.read_by.get(v, ()))
    ]
    nodes = (*constants, *main)
    digest = _structure(nodes, list(inputs), list(sides), list(weights), outputs)
    return Block(nodes, tuple(inputs), tuple(sides), tuple(weights), tuple(outputs), digest)


def _constants(main: list[ir.Node], kinds: _Kinds) -> list[ir.Node]:
    """The constant nodes that some nodes depend on, in the order in which these read them."""
    found: dict[ir.Node, None] = {}

    def visit(node: ir.Node) -> None:
        for value in reads(node):
            producer = value.producer()
            if producer in kinds.constant and producer not in found:
                assert producer is not None
                visit(producer)
                found[producer] = None

    for node in main:
        visit(node)
    return list(found)


def _structure(
    nodes: Sequence[ir.Node],
    inputs: list[ir.Value],
    sides: list[ir.Value],
    weights: list[ir.Value],
    outputs: list[ir.Value],
) -> str:
    """A digest of everything except names and the values of float weights."""
    labels: dict[ir.Value | None, str] = {None: "none"}
    labels.update({v: f"in{i}" for i, v in enumerate(inputs)})
    labels.update({v: f"side{i}:{v.dtype}" for i, v in enumerate(sides)})
    labels.update({v: f"weight{i}:{_content(v)}" for i, v in enumerate(weights)})
    digest = hashlib.sha256()
    for number, node in enumerate(nodes):
        labels.update({v: f"n{number}.{i}" for i, v in enumerate(node.outputs)})
        _add_node(digest, node, labels)
    digest.update(str([labels[v] for v in outputs]).encode())
    return digest.hexdigest()[:16]


def _add_node(digest: hashlib._Hash, node: ir.Node, labels: dict[ir.Value | None, str]) -> None:
    digest.update(f"{node.domain}.{node.op_type}.{node.overload}".encode())
    digest.update(str([labels.get(v, "captured") for v in node.inputs]).encode())
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            digest.update(f"{name}={tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(tensor.tobytes())
        elif _graphs(attribute):
            for graph in _graphs(attribute):
                local = dict(labels)
                local.update({v: f"given{i}" for i, v in enumerate(graph.inputs)})
                local.update({v: _content(v) for v in graph.initializers.values()})
                for number, inner in enumerate(graph):
                    local.update({v: f"i{number}.{i}" for i, v in enumerate(inner.outputs)})
                    _add_node(digest, inner, local)
        else:
            digest.update(f"{name}={attribute.value}".encode())


def _content(value: ir.Value) -> str:
    """Type and shape of a float weight; of any other constant also its values."""
    tensor = constant_of(value)
    if tensor is None:
        return "?"
    text = f"{tensor.dtype}{list(tensor.shape)}"
    if tensor.dtype in FLOATS and tensor.size > 1:
        return text
    return text + hashlib.sha256(tensor.tobytes()).hexdigest()[:16]
