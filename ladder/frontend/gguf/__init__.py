"""GGUF files: their header and parts, what their metadata say of the model, and their tensors."""
