"""Frontends: anything a user has (ONNX file, torch module, HF folder, GGUF) -> the IR."""
