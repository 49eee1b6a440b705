"""Tensor cores as hardware: units in Amaranth, their reference, Verilog and synthesis."""
