"""One float graph in ONNX Runtime and in TVM."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ladder.codegen.float_graph import FloatGraphs
from ladder.errors import LadderError, one_line
from ladder.hardware.targets import native_level
from ladder.ir import facts
from ladder.ir.blocks import reads
from ladder.ir.parts import part_of, without_repeats
from ladder.ir.site import find_sites
from ladder.pipeline.float_check.differences import excess, largest
from ladder.pipeline.float_check.first import first_difference, first_uncompiled
from ladder.pipeline.float_check.random_inputs import Arrays, Run
from ladder.pipeline.float_check.values import Values, made_in, unexplained

HINT = "'ladder quantize' writes an ONNX file instead, and --no-check leaves out this comparison"


class Comparison:
    """A model with bound dimensions and a plan; ``origin`` is its name in messages."""

    def __init__(self, bound: ir.Model, origin: str) -> None:
        self.model, self.origin, self.level = bound, origin, native_level()
        products = _products(bound)
        self.kept = [node for node in without_repeats(bound) if node not in products]
        others = set(bound.graph) - set(self.kept)
        around = {v.name for node in others for v in [*node.outputs, *reads(node)]}
        self.values = Values(bound, {v.name or "" for v in made_in(bound)} & around)

    def error(self, runs: Sequence[Run]) -> float:
        """The largest difference; one that float arithmetic does not explain is refused."""
        inner = [self._inner(run) for run in runs]
        errors = [self._simplified(run, found) for run, found in zip(runs, inner, strict=True)]
        if self.kept:
            errors += self._compiled(
                [Run({**run.feeds, **found}, found) for run, found in zip(runs, inner, strict=True)]
            )
        return max(errors)

    def _inner(self, run: Run) -> Arrays:
        try:
            return self.values.run(run.feeds)
        except Exception as error:
            raise self._refusal(
                "ONNX Runtime runs the model, but not what Ladder's passes made of it: "
                f"{one_line(error)}"
            ) from error

    def _simplified(self, run: Run, inner: Arrays) -> float:
        """What the passes before allocation changed."""
        got = {name: inner[name] for name in run.outputs}
        bad = unexplained(self.values.run, run, got)
        if bad:
            name = max(bad, key=bad.__getitem__)
            raise self._refusal(
                f"Ladder's passes change the output '{name}' by {bad[name]:.2g} of its largest "
                "value"
            )
        return largest(got, run.outputs)

    def _compiled(self, runs: Sequence[Run]) -> list[float]:
        """What TVM computes otherwise in each run, which has the values around products too."""
        errors, shapes = [], None
        for run in runs:
            if shapes != _shapes(run):  # those of a second run differ where data decide on them
                part, shapes = part_of(self.model, self.kept, run.feeds), _shapes(run)
                reference, graphs = Values(part), self._built(part, run)
            got = self._got(graphs, run)
            if excess(got, run.outputs):
                self._refuse_difference(reference, run, got)
            errors.append(largest(got, run.outputs))
        return errors

    def _built(self, part: ir.Model, run: Run) -> FloatGraphs:
        try:
            return FloatGraphs({"main": part}, self.level)
        except LadderError:
            raise
        except Exception as error:
            node = first_uncompiled(self.model, self.kept, run.feeds, self.level)
            what = f"{node} ({one_line(error)})" if node else one_line(error)
            raise LadderError(
                f"{self.origin}: TVM cannot compile {what}; 'ladder quantize' writes an ONNX file "
                "instead"
            ) from error

    def _got(self, graphs: FloatGraphs, run: Run) -> Arrays:
        try:
            return graphs.run("main", run.feeds)
        except Exception as error:
            raise self._refusal(
                f"ONNX Runtime runs the model, but TVM does not: {one_line(error)}"
            ) from error

    def _refuse_difference(self, reference: Values, run: Run, got: Arrays) -> None:
        first = first_difference(self.model, self.kept, run.feeds, self.level)
        bad = {} if first else unexplained(reference.run, run, got)
        if not first and not bad:
            return
        name = max(bad, key=bad.__getitem__, default="")
        what = first or f"the value '{name}' by {bad[name]:.2g} of its largest value"
        raise self._refusal(f"compiled code differs from ONNX Runtime: {what}")

    def _refusal(self, what: str) -> LadderError:
        return LadderError(f"{self.origin}: {what}; {HINT}")


def _products(model: ir.Model) -> set[ir.Node]:
    """The nodes of the main graph whose weight becomes low-bit, and with it their arithmetic."""
    plan, nodes = facts.need(model, facts.BitPlan).choices, set(model.graph)
    return {
        site.node
        for site in find_sites(model)[0]
        if site.name in plan and site.node in nodes and not _is_grouped(site.node)
    }


def _is_grouped(node: ir.Node) -> bool:
    """A convolution in groups stays TVM's: its weight alone is stored in low bits."""
    return node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1


def _shapes(run: Run) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in run.feeds.items()}
