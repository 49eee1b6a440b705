"""Greedy tokens of an artifact, with only its runtime: ``generate.py ARTIFACT PROMPT COUNT``.

PROMPT and the output are JSON lists of token ids. This script needs NumPy and TVM's runtime.
"""

import json
import sys

from ladder.runtime import load
from ladder.runtime.language_model import LanguageModel


def main(folder: str, prompt: str, count: str) -> None:
    model = load(folder)
    assert isinstance(model, LanguageModel)
    logits, tokens = model.feed(json.loads(prompt))[-1], []
    for _ in range(int(count)):
        tokens.append(int(logits.argmax()))
        logits = model.step(tokens[-1])
    print(json.dumps(tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
