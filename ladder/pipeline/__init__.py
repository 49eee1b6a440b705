"""From a model to an artifact or an ONNX file: sources, phases, plan files, reports."""
