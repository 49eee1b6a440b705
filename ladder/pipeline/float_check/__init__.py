"""Every compiled float graph computes what ONNX Runtime computes of the model, or is refused."""
