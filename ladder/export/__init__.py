"""Export: the quantized IR -> an ONNX file that stock ONNX Runtime runs."""
