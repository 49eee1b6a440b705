"""Compares random graphs with ONNX Runtime: python -m fuzz.graphs [--cases N | --minutes N] ...

Every graph goes through ``quantize``, or with --compile through ``compile``, and must compute what
ONNX Runtime computes on the original. One that differs is shrunk and printed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime as ort

from fuzz.more_operators import another
from fuzz.random_graphs import KINDS, Drawn, draw, proto
from ladder.errors import LadderError, NothingToQuantize

ort.set_default_logger_severity(4)
TOLERANCE = 2e-4  # of the largest value: float sums in another order
ALL_KINDS = (*KINDS, another, another, another)
SMALL, LARGE = 12, 30  # nodes of a graph: building kernels takes a second
FORMATS = (("int8:row", "qdq"), ("int4:g32", "qdq"), ("int4:g16", "qdq"), ("int4:g32", "nbits"),
           ("int3:g32", "qdq"), ("int8:g32", "qdq"))  # fmt: skip
TYPES = ("int4:g32", "int8:row", "int2:g32", "int3:g64")


class Wrong(Exception):
    """A graph computes something else than the original."""


@dataclass(frozen=True)
class Case:
    """A way that a graph goes."""

    kind: str
    type: str
    format: str = ""


def outputs_of(graph: Drawn, nodes: list[onnx.NodeProto]) -> list[str]:
    """The values that no node reads, and that are floats."""
    read = {name for node in nodes for name in node.input}
    made = [name for node in nodes for name in node.output if name in graph.shapes]
    return [name for name in made if name not in read]


def original(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The meaning: ONNX Runtime without its optimizations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, feeds))


def through(case: Case, model: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path
            ) -> list[np.ndarray]:  # fmt: skip
    """The outputs after quantizing or compiling."""
    onnx.save(model, folder / "model.onnx")
    if case.kind == "quantize":
        from ladder.options.requests import QuantizeOptions
        from ladder.pipeline.quantize import quantize_onnx

        options = QuantizeOptions(type=case.type, format=case.format, rounding="rtn")  # type: ignore[arg-type]
        quantize_onnx(folder / "model.onnx", folder / "out.onnx", options)
        return list(ort.InferenceSession(str(folder / "out.onnx")).run(None, feeds))
    import ladder
    from ladder.runtime.artifact import Artifact
    from ladder.runtime.session import Session

    ladder.compile(folder / "model.onnx", folder / "out", type=case.type, activation="fp32",
                   rounding="rtn")  # fmt: skip
    found = Session(Artifact.load(folder / "out")).run(feeds)
    return [found[value.name] for value in model.graph.output]


def compare(case: Case, graph: Drawn, nodes: list[onnx.NodeProto], outputs: list[str]) -> None:
    """Raise ``Wrong`` where a part of a graph computes something else; refusals pass through."""
    model = proto(graph, nodes, outputs)
    feeds = {value.name: graph.inputs[value.name] for value in model.graph.input}
    wanted = original(model, feeds)
    with tempfile.TemporaryDirectory(prefix="ladder-graphs-") as folder:
        got = through(case, model, feeds, Path(folder))
    for name, a, b in zip(outputs, got, wanted, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Wrong(f"{name} is {a.dtype} {a.shape}, not {b.dtype} {b.shape}")
        if b.size and not np.allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, np.abs(b).max())):
            raise Wrong(f"{name} differs by {np.abs(a - b).max():.3g} of {np.abs(b).max():.3g}")


def fault(case: Case, graph: Drawn, nodes: list[onnx.NodeProto], outputs: list[str]) -> str | None:
    """What is wrong with a graph's way, or None; a refusal of one line is right."""
    try:
        compare(case, graph, nodes, outputs)
    except LadderError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"
    return None


def shrunk(case: Case, graph: Drawn) -> tuple[list[onnx.NodeProto], list[str]]:
    """The smallest part of a graph that is still wrong: the last nodes go first, then any."""
    nodes = list(graph.nodes)
    for size in range(1, len(nodes)):
        part = nodes[:size]
        if outputs_of(graph, part) and fault(case, graph, part, outputs_of(graph, part)):
            nodes = part
            break
    outputs = outputs_of(graph, nodes)
    for name in outputs:
        if fault(case, graph, nodes, [name]):
            outputs = [name]
            break
    for node in reversed(nodes[:-1]):
        part = [other for other in nodes if other is not node]
        needed = {name for other in part for name in other.input}
        if not needed & set(node.output) and fault(case, graph, part, outputs):
            nodes = part
    return nodes, outputs


def text_of(model: onnx.ModelProto) -> str:
    """The graph as text, without the numbers of its weights."""
    return re.sub(r"\{[^{}\n]{80,}\}", "{...}", onnx.printer.to_text(model))


def case_of(random: Random, compiled: bool) -> Case:
    if compiled:
        return Case("compile", random.choice(TYPES))
    return Case("quantize", *random.choice(FORMATS))


def run(seed: int, cases: int, until: float, compiled: bool) -> tuple[Counter[str], list[str]]:
    """Try graphs; returns how they ended, and each fault with its smallest graph."""
    said, faults = Counter[str](), list[str]()
    for number in range(cases):
        if time.monotonic() > until:
            break
        random = Random(f"graph {seed} {number} {compiled}")
        graph, case = (
            draw(random, LARGE if compiled else SMALL, ALL_KINDS),
            case_of(random, compiled),
        )
        try:
            compare(case, graph, graph.nodes, outputs_of(graph, graph.nodes))
            said["same"] += 1
        except NothingToQuantize:
            said["nothing to quantize"] += 1
        except LadderError as error:
            said["refused"] += 1
            print(f"refused: seed {seed} case {number}: {error!s:.200}", file=sys.stderr)
        except Exception as error:
            said["failed"] += 1
            nodes, outputs = shrunk(case, graph)
            faults.append(f"seed {seed} case {number} {case}: {error!s:.300}\n"
                          f"{text_of(proto(graph, nodes, outputs))}")  # fmt: skip
    return said, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    said, faults = run(asked.seed, asked.cases, until, asked.compile)
    for text, count in said.most_common():
        print(f"{count:6} {text}")
    print(*(f"FAULT {text}" for text in faults), sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
