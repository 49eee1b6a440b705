"""ONNX Attention in every form: small models and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper
from small_graphs import Arrays

NAMES = ("q", "k", "v", "mask", "past_key", "past_value", "lengths")
RESULTS = ("y", "present_key", "present_value", "scores")


@dataclass(frozen=True)
class Case:
    """Shapes of the inputs by name, attributes, and what ``feeds`` needs."""

    q: tuple[int, ...] = (1, 4, 6, 16)
    k: tuple[int, ...] = (1, 2, 6, 16)
    v: tuple[int, ...] = ()  # like k
    mask: tuple[int, ...] = ()
    mask_type: str = "bool"
    hidden: tuple[int, ...] = ()  # rows of the mask that hide every key
    past: int = 0
    lengths: tuple[int, ...] = ()
    dtype: str = "float32"
    outputs: int = 1
    opset: int = 24
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def feeds(self) -> Arrays:
        rng = np.random.default_rng(0)

        def real(*shape: int) -> np.ndarray:
            return (2 * rng.standard_normal(shape)).astype(self.dtype)

        values = self.v or self.k
        feeds = {"q": real(*self.q), "k": real(*self.k), "v": real(*values)}
        if self.mask:
            feeds["mask"] = real(*self.mask)
            if self.mask_type == "bool":
                feeds["mask"] = feeds["mask"] > -1
            elif self.mask_type == "holes":
                feeds["mask"][feeds["mask"] < -1] = -np.inf
            for row in self.hidden:
                feeds["mask"][..., row, :] = False if self.mask_type == "bool" else -np.inf
        if self.past:
            feeds["past_key"] = real(*self.k[:2], self.past, self.k[3])
            feeds["past_value"] = real(*values[:2], self.past, values[3])
        if self.lengths:
            feeds["lengths"] = np.array(self.lengths)
        return feeds

    def model(self) -> ir.Model:
        """The operator alone in a graph."""
        feeds = self.feeds
        names = [name if name in feeds else "" for name in NAMES]
        while not names[-1]:
            names.pop()
        results = list(RESULTS[: self.outputs])
        node = helper.make_node("Attention", names, results, name="attn", **self.attributes)
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in feeds.items()
        ]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in results]
        graph = helper.make_graph([node], "g", inputs, outputs)
        imports = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=imports, ir_version=11)
        made: ir.Model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
        return made


HEADS_3D: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 2}
IN_ROWS: dict[str, Any] = {
    "q": (2, 6, 64),
    "k": (2, 7, 32),
    "v": (2, 7, 40),
    "attributes": HEADS_3D,
}
CAUSAL: dict[str, Any] = {"is_causal": 1}
TWO: dict[str, Any] = {"q": (2, 4, 6, 16), "k": (2, 2, 9, 16)}
# What ONNX Runtime computes as the standard says.
RIGHT_IN_RUNTIME = {
    "plain": Case(),
    "opset 23": Case(opset=23),
    "scale": Case(attributes={"scale": 0.5}),
    "softcap": Case(attributes={"softcap": 2.0}),
    "causal": Case(attributes=CAUSAL),
    "causal, more keys": Case(k=(1, 2, 9, 16), attributes=CAUSAL),
    "causal, fewer keys": Case(k=(1, 2, 4, 16), attributes=CAUSAL),
    "bool mask": Case(mask=(6, 6)),
    "bool mask of one head": Case(mask=(1, 1, 6, 6)),
    "bool mask for each head": Case(mask=(1, 4, 6, 6)),
    "mask of three dimensions": Case(mask=(4, 6, 6)),
    "mask for each sequence": Case(**TWO, mask=(2, 1, 6, 9)),
    "float mask": Case(mask=(6, 6), mask_type="float"),
    "float mask for each head": Case(mask=(1, 4, 6, 6), mask_type="holes"),
    "float mask and softcap": Case(mask=(6, 6), mask_type="holes", attributes={"softcap": 2.0}),
    "bool mask and softcap": Case(mask=(6, 6), attributes={"softcap": 2.0}),
    "mask and causal": Case(mask=(6, 6), attributes=CAUSAL),
    "float mask and causal": Case(mask=(6, 6), mask_type="float", attributes=CAUSAL),
    "sequences": Case(**TWO),
    "past": Case(past=3, outputs=3),
    "past, causal": Case(past=3, outputs=3, attributes=CAUSAL),
    "past, mask": Case(past=3, outputs=3, mask=(6, 9)),
    "past, wide values": Case(past=3, outputs=3, v=(1, 2, 6, 24)),
    "lengths": Case(**TWO, lengths=(7, 9)),
    "lengths, causal": Case(**TWO, lengths=(7, 9), attributes=CAUSAL),
    "lengths, one token": Case(q=(2, 4, 1, 16), k=(2, 2, 9, 16), lengths=(3, 9)),
    "rows": Case(**IN_ROWS),
    "rows, causal": Case(**{**IN_ROWS, "attributes": HEADS_3D | CAUSAL}),
    "one row": Case(**{**IN_ROWS, "q": (1, 1, 64), "k": (1, 7, 32), "v": (1, 7, 40)}),
    "wide values": Case(v=(1, 2, 6, 32)),
    "narrow values": Case(v=(1, 2, 6, 5)),
    "heads of 8": Case(q=(1, 4, 6, 8), k=(1, 2, 6, 8)),
    "heads of 72": Case(q=(1, 4, 6, 72), k=(1, 2, 6, 72)),
    "heads of 100": Case(q=(1, 4, 6, 100), k=(1, 2, 6, 100)),
    "heads of 7": Case(q=(1, 4, 6, 7), k=(1, 2, 6, 7)),
    "one key head": Case(k=(1, 1, 6, 16)),
    "long": Case(q=(1, 2, 3, 16), k=(1, 1, 70, 16), mask=(3, 70)),
    "float16": Case(dtype="float16", mask=(6, 6)),
}
# What ONNX Runtime refuses, or computes in another way: a mean of all values for a hidden row.
RIGHT_IN_REFERENCE = {
    "mask for all queries": Case(mask=(1, 6)),
    "mask of one dimension": Case(mask=(6,)),
    "mask of fewer keys": Case(k=(1, 2, 9, 16), mask=(6, 6)),
    "mask of fewer keys and lengths": Case(**TWO, mask=(6, 8), lengths=(3, 8)),
    "float mask of fewer keys": Case(k=(1, 2, 9, 16), mask=(6, 6), mask_type="float"),
    "hidden rows": Case(mask=(6, 6), hidden=(0, 3)),
    "hidden rows, float mask": Case(mask=(6, 6), mask_type="float", hidden=(0, 3)),
    "hidden rows, causal": Case(mask=(6, 6), hidden=(2,), attributes=CAUSAL),
    "more queries than keys": Case(**TWO, lengths=(2, 9), attributes=CAUSAL),
    "no keys": Case(**TWO, lengths=(0, 4)),
}
