"""Frontends: read a model (ONNX file, torch module, Hugging Face folder, GGUF) into the IR."""
