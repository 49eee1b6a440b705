"""A language model in a few bits: compile it, read the report, generate text.

    python language_model.py [MODEL] [BITS]

Without a model, SmolLM2-135M-Instruct is fetched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ladder
import ladder.runtime
from ladder import samples


def main(model: Path, bits: float) -> None:
    report = ladder.compile(model, "language-model", bpw=bits, context=512)
    print(f"{report.bits_per_weight:.2f} bits per weight, {report.size_bytes / 1e6:.1f} MB")
    for name, loss in report.plan["measured"].items():
        print(f"  {name}: {loss}")

    loaded = ladder.runtime.load("language-model")
    for piece in loaded.stream_text("The capital of France is", limit=20):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="GGUF file or Hugging Face folder")
    parser.add_argument("bits", nargs="?", type=float, default=4.25, help="bits per weight")
    given = parser.parse_args()
    if given.model is None:
        samples.main(["smollm2.gguf"])
    main(given.model or Path("smollm2.gguf"), given.bits)
