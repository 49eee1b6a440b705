"""A type of your own, another type for some layers, and the IR that comes of them.

python own_type.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ladder
import ladder.runtime
from ladder import samples
from ladder.ir.dump import dump_text
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes


def main() -> None:
    samples.main(["tiny.onnx", "input.npz"])
    ladder.register_type("thirds", [-1, -1 / 3, 1 / 3, 1])

    model = ladder.load("tiny.onnx").model
    passes = "clean-up,allocate-uniform{type=thirds:g64,rules=mlp.down=int8:row},round-weights"
    run_passes(model, parse_pipeline(passes))
    print(dump_text(model))

    rules = {"mlp.down": "int8:row"}
    report = ladder.compile(
        "tiny.onnx", "own-type", type="thirds:g64", rules=rules, dims="tokens=4"
    )
    for site in report.sites:
        print(f"{site['name']}: {site['type']}, error of the weights {site['weight_error']:.3f}")

    session = ladder.runtime.load("own-type")
    y = session.run({"x": np.load("input.npz")["x"]})["y"]
    print(f"{Path('own-type')}: an output of shape {y.shape}")


if __name__ == "__main__":
    main()
