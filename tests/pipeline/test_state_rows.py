"""The report says which states keep more rows, or a wider type, than was asked for, and why."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.frontend.types import states_of
from ladder.ir.facts import Windows
from ladder.pipeline.state_rows import reasons_to_keep, state_notes, state_rows

# One layer reads its keys by Attention, the other one multiplies them itself.
TEXT = """model (
    int64[1, tokens] input_ids, int64[1] position, float[1, 1, context, 4] "state.0.key",
    float[1, 1, context, 4] "state.1.key"
) => (
    float[1, 1, tokens, 4] y, float[1, 1, tokens, context] z,
    float[1, 1, context, 4] "state.0.key.next", float[1, 1, context, 4] "state.1.key.next"
) {
    x = Gather(embed, input_ids)
    rows = Unsqueeze(x, one)
    "state.0.key.next" = TensorScatter<axis = 2>("state.0.key", rows, position)
    "state.1.key.next" = TensorScatter<axis = 2>("state.1.key", rows, position)
    keys = Transpose<perm = [0, 1, 3, 2]>("state.1.key.next")
    z = MatMul(rows, keys)
    mask = Cast<to = 9>(z)
    y = Attention(rows, "state.0.key.next", "state.0.key.next", mask)
}"""
READ = "it is read by Transpose, not by Attention alone"
CHUNK = "all rows are kept: what its layer attends to is no sliding window"
SIZED = "all rows are kept: another node of the graph depends on the number of its rows"
ROWS = f"all rows are kept: {READ}"


@pytest.mark.parametrize(
    ("kv_type", "windows", "reasons"),
    [
        ("fp32", Windows(), ["", ROWS]),
        ("fp16", Windows(), ["", f"{ROWS}; float32 is kept: {READ}"]),
        ("fp32", Windows(others=("mask",)), [CHUNK, ROWS]),
        ("fp32", Windows({"mask": 8}), [SIZED, ROWS]),
    ],
)
def test_reasons(kv_type: str, windows: Windows, reasons: list[str]) -> None:
    model: ir.Model = ir.from_proto(graph(TEXT, {"embed": random(16, 4)}, opset=24))
    specs = states_of(model)
    rows = state_rows(specs, reasons_to_keep(model, specs, windows), kv_type)
    assert [row["reason"] for row in rows] == reasons
    assert state_notes(rows)[-1] == f"state.1.key: {reasons[1]}"
