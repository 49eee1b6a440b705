"""A smaller ONNX file for any ONNX Runtime: quantize it, and compare it with the original.

    python onnx_file.py [IN.onnx]

Without a file, a small model is made.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

import ladder
from ladder import samples

TOKENS = 4  # of the size that the small model leaves open


def run(path: Path) -> list[np.ndarray]:
    """The outputs for a fixed random input."""
    session = onnxruntime.InferenceSession(path)
    random = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else TOKENS for size in value.shape]
        feeds[value.name] = random.standard_normal(shape).astype(np.float32)
    return session.run(None, feeds)


def main(source: Path) -> None:
    wanted = run(source)
    for type in ("int8:row", "int4:g32", "int2:g32"):
        target = source.with_suffix(f".{type.replace(':', '-')}.onnx")
        report = ladder.export_onnx(source, target, type=type)
        pairs = zip(wanted, run(target), strict=True)
        errors = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs]
        sizes = f"{report.size_bytes_before / 1e6:.2f} -> {report.size_bytes / 1e6:.2f} MB"
        print(f"{type}: {sizes}, error {max(errors):.3f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        samples.main(["tiny.onnx"])
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tiny.onnx"))
