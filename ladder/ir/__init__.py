"""The IR: an ``onnx_ir.Model``, a type system for low-bit weights, and the ladder dialect."""
