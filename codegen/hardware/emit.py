"""A unit as Verilog."""

from __future__ import annotations

from amaranth.back import verilog

from ladder.codegen.hardware.columns import Placed
from ladder.codegen.hardware.unit import BUFFER, COLUMN, Unit, column_of
from ladder.hardware.tensor_cores import TensorCore

UNIT = "unit"  # the name of the top module
# Of Amaranth's style, not of the circuit; the tests look at what is said without these.
WAIVED = """// One file has all modules. Bits that nothing reads have names.
// Narrow operands are extended, as the language defines.
// verilator lint_off DECLFILENAME
// verilator lint_off UNUSEDSIGNAL
// verilator lint_off WIDTH
"""
BROADCAST = f"""
(* keep_hierarchy *)
module {BUFFER}(input a, output y);
  assign y = a;
endmodule
"""


def verilog_of(core: TensorCore) -> str:
    """Verilog of a unit: the modules ``column``, ``unit`` and ``broadcast``, which only buffers."""
    column, unit = column_of(core), Unit(core, instances=True)
    texts = (
        verilog.convert(Placed(part), name=name, ports=part.ports, strip_internal_attrs=True)
        for part, name in ((column, COLUMN), (unit, UNIT))
    )
    return "\n".join([WAIVED, *texts, BROADCAST])
