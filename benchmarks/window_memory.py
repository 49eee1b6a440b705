"""Peak memory of a model with a sliding window, and of the same model with full attention.

    python benchmarks/window_memory.py

A random Mistral of 8 layers is compiled for a context of 4096 tokens and fed as many, with a window
of 256 tokens and without. Each is compiled and run in a process of its own; its peak is that of its
resident memory, as Linux reports it. The states are the bytes of keys and values.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTEXT, WINDOW, VOCABULARY = 4096, 256, 256
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": CONTEXT,
}
MEGA = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # of this script, in a process
    part = parser.parse_args().part
    if part:
        print(json.dumps({"compile": compiled, "run": run}[part[0]](Path(part[1]))))
        return
    print("| attention | peak of compiling | peak of running | states |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, window in (("full", None), (f"window of {WINDOW}", WINDOW)):
            at = Path(folder) / str(window)
            write_model(at / "model", window)
            peaks = [in_process(part, at) for part in ("compile", "run")]
            row = [peaks[0]["peak"], peaks[1]["peak"], peaks[1]["states"]]
            print(f"| {name} | " + " | ".join(f"{n / MEGA:.0f} MB" for n in row) + " |")


def write_model(folder: Path, window: int | None) -> None:
    import torch
    import transformers as hf

    torch.manual_seed(0)
    config = hf.MistralConfig(**SIZES, sliding_window=window)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def in_process(part: str, folder: Path) -> dict[str, Any]:
    """The result of a part of this script in a process of its own."""
    command = [sys.executable, __file__, "--part", part, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compiled(folder: Path) -> dict[str, Any]:
    import ladder

    ladder.compile(folder / "model", folder / "artifact", type="int8:row", context=CONTEXT)
    return {"peak": peak()}


def run(folder: Path) -> dict[str, Any]:
    """A text that fills the context."""
    from ladder.runtime import load
    from ladder.runtime.language_model import LanguageModel

    model = load(folder / "artifact")
    assert isinstance(model, LanguageModel)
    model.feed([i % VOCABULARY for i in range(CONTEXT)], "last")
    return {"peak": peak(), "states": sum(a.nbytes for a in model.states.buffers.values())}


def peak() -> int:
    """Bytes of this process's largest resident memory; ``getrusage`` has its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
