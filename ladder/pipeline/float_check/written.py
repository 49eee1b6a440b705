"""Compare a written ONNX file with the model that it was made of, before the file gets its name.

    original                                   --ONNX Runtime-->  outputs
    before rounding (where passes changed it)  --ONNX Runtime-->  the same
    the values that low-bit weights mean, in place of the weights of the model before rounding,
    still in its own opset                     --ONNX Runtime-->  outputs
    the file, as a user's session runs it      --ONNX Runtime-->  the same

With rounded activations the file computes something else on purpose: then it is compared without
its accuracy_level, or the third model is compared with itself in the file's opset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.blockwise.weights import as_stored
from ladder.errors import LadderError, one_line
from ladder.export.opset import raise_opset
from ladder.export.weights import array_of, high_rung_nodes
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.activation import FLOAT
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.names import Names, add_initializer, described
from ladder.ir.shapes import static_shape, with_sizes
from ladder.ir.site import SITE_KEY, WEIGHT_INPUT, find_sites
from ladder.options.requests import QuantizeOptions
from ladder.options.sites import NO_REMEDY
from ladder.pipeline.float_check.differences import excess, largest
from ladder.pipeline.float_check.random_inputs import Arrays, Run, random_runs
from ladder.pipeline.float_check.values import Values, made_in, unexplained
from ladder.reference import Reference
from ladder.support.progress import stage

SIZES = (2, 1, 8, 16, 64)  # of open dimensions, tried in this order
HINT = "keep the site with --keep, take another --format, or give --no-check"


class WrittenCheck:
    """Called with the file; ``result`` is for the report, as in ``CompileReport.check``."""

    def __init__(self, source: Source, options: QuantizeOptions) -> None:
        self.source, self.options = source, options
        self.result: dict[str, Any] = {"error": None, "reason": "--no-check"}
        self._nodes = source.model.graph.num_nodes()
        self._before, self._reference = source.model, source.model

    def prepared(self, model: ir.Model) -> None:
        """The model after the passes before rounding."""
        self._before = facts.clone(model)

    def rounded(self, model: ir.Model) -> None:
        """The model after rounding, which is rewritten for the file later."""
        if self.options.checked:
            self._reference = with_low_bit_values(self._before, model)

    def __call__(self, file: Path) -> None:
        if not self.options.checked:
            return
        with stage("compare with ONNX Runtime"):
            try:
                runs = _original_runs(self.source, self._before)
            except Exception as error:  # whatever ONNX Runtime says of the model
                reason = f"ONNX Runtime does not run the original: {one_line(error)}"
                self.result = {"error": None, "reason": reason}
                return
            self.result = {"error": self._error(file, runs), "reason": ""}

    def _error(self, file: Path, runs: list[Run]) -> float:
        before, reference = self._before, self._reference
        if before.graph.num_nodes() != self._nodes or self.options.outliers != NO_REMEDY:
            self._compare(before, Values(before).run, runs)
        wanted = [Run(run.feeds, Values(reference).run(run.feeds)) for run in runs]
        written = self._loaded(file)
        if self.options.accuracy_level:
            exact = _without_rounding(ir.load(file))
            return self._compare(exact, Values(exact).run, wanted)
        if self.options.activation == FLOAT:
            return self._compare(ir.load(file), written.run, wanted)
        raised = facts.clone(reference)
        raise_opset(raised, ir.load(file).graph.opset_imports.get("", 1))
        return self._compare(raised, Values(raised).run, wanted)

    def _loaded(self, file: Path) -> Reference:
        try:
            return Reference(file, fast=True)
        except Exception as error:
            raise self._refusal(
                f"ONNX Runtime does not load what would be written: {one_line(error)}"
            ) from error

    def _compare(
        self,
        model: ir.Model,
        run: Callable[[Arrays], Arrays],
        runs: Sequence[Run],
    ) -> float:
        """The largest error of ``run``, that of ``model``, against the outputs in ``runs``."""
        errors = []
        for wanted in runs:
            got = run(wanted.feeds)
            if unexplained(Values(self._reference).run, wanted, got):
                raise self._refusal(self._difference(model, wanted, got))
            errors.append(largest(got, wanted.outputs))
        return max(errors)

    def _difference(self, model: ir.Model, wanted: Run, got: Arrays) -> str:
        """The first value of ``model`` that differs from that of its name in the reference."""
        error = f"{largest(got, wanted.outputs):.2g} of the largest value"
        names = {v.name or "" for v in made_in(self._reference)}
        names &= {v.name or "" for v in made_in(model)}
        right = Values(self._reference, names).run(wanted.feeds)
        found = Values(model, names).run(wanted.feeds)
        bad = excess({name: found[name] for name in names}, right)
        for node in self._reference.graph:
            if any(value.name in bad for value in node.outputs):
                return (
                    f"what would be written differs from its low-bit weights by {error}, "
                    f"first in {described(node)}"
                )
        return f"ONNX Runtime's optimizations change what would be written by {error}"

    def _refusal(self, what: str) -> LadderError:
        return LadderError(f"{self.source.origin}: {what}; {HINT}")


def _original_runs(source: Source, before: ir.Model) -> list[Run]:
    """Of the file that was given, with the first sizes of open dimensions that it takes."""
    original, failure = Reference(Path(source.origin), optimize=False), None
    for size in SIZES if _is_open(before) else SIZES[:1]:
        try:
            return random_runs(with_sizes(before, size), original.run, {})
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _without_rounding(model: ir.Model) -> ir.Model:
    """With the activations of MatMulNBits as they are, whatever its accuracy_level."""
    for node in model.graph.all_nodes():
        node.attributes.pop("accuracy_level", None)
    return model


def _is_open(model: ir.Model) -> bool:
    return any(static_shape(value) is None for value in model.graph.inputs)


def with_low_bit_values(before: ir.Model, rounded: ir.Model) -> ir.Model:
    """``before`` with weights of the values that the low-bit weights of ``rounded`` mean."""
    model, names = facts.clone(before), Names(before)
    values = {n.metadata_props[SITE_KEY]: _meaning(n) for n in high_rung_nodes(rounded)}
    for site in find_sites(model)[0]:
        if site.name not in values:
            continue
        place, node = WEIGHT_INPUT[site.node.op_type], site.node
        array = as_stored(site, values[site.name])
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        turned = node.inputs[place] is not site.weight  # it reads a Transpose of the weight
        weight = np.ascontiguousarray(array.T if turned else array)
        weight = weight.astype(site.kind.numpy(), copy=False)
        name = names.fresh(f"{site.name}.values")
        node.replace_input_with(place, add_initializer(graph, name, weight, site.kind))
    return model


def _meaning(node: ir.Node) -> np.ndarray:
    """The weight [N, K] of a node of the dialect, in float32."""
    dtype = DType.parse(node.overload)
    codes, scale, *rest = (array_of(value) for value in node.inputs[1:] if value is not None)
    zero = rest.pop(0) if dtype.zero_point else None
    whole = np.float32(rest[0]) if rest else None
    weight: np.ndarray = dequantized(dtype, codes, scale, zero, whole)
    return weight
