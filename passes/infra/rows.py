"""Which states of a language model are keys and values of Attention, and where they are written."""

from __future__ import annotations

import onnx_ir as ir

from ladder.ir.states import STATE_PREFIX

READ_BY = (1, 2)  # the inputs of Attention for keys and values


def write_of(state: ir.Value) -> ir.Node | None:
    """The TensorScatter of new rows, if everything else about a state is read by Attention."""
    name = state.name or ""
    uses = [use for use in state.uses() if use.node.op_type != "Shape"]
    if not name.startswith(STATE_PREFIX) or len(uses) != 1 or state.dtype != ir.DataType.FLOAT:
        return None
    write = uses[0].node
    if write.op_type != "TensorScatter" or write.inputs[0] is not state:
        return None
    readers = write.outputs[0].uses()
    read = all(use.node.op_type == "Attention" and use.idx in READ_BY for use in readers)
    return write if read and readers else None


def readers_of(state: ir.Value) -> list[ir.Node]:
    """The nodes that read what is written to a state."""
    written = [out for use in state.uses() for out in use.node.outputs]
    return [use.node for value in written for use in value.uses()]
