"""Exports the quantized IR to an ONNX file that stock ONNX Runtime runs."""
