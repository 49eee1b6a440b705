"""The way of a model through the compiler: sources, phases, artifacts, ONNX files."""
