"""Benchmarks of other engines and Ladder: the same products in turns, one process per engine."""

from __future__ import annotations

import importlib

from ladder.errors import LadderError
from ladder.peers.engine import LIMITS, Engine

OWN, ALL = "ladder", "all"
PEERS = {
    "onnxruntime": "ladder.peers.ort:OnnxRuntime",
    "openvino": "ladder.peers.ov:OpenVino",
    "torch": "ladder.peers.pytorch:PyTorch",
    "llama-cpp": "ladder.peers.ggml:LlamaCpp",
}
ENGINES = {LIMITS: "ladder.peers.limits:Limits", OWN: "ladder.peers.own:Ladder", **PEERS}


def peers_of(text: str) -> list[str]:
    """``--peers``: names separated by commas, or ``all``."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [ALL]:
        return [*PEERS]
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        what = f"unknown peer '{unknown[0]}'" if unknown else "--peers is empty"
        raise LadderError(f"{what}; one of: {', '.join(PEERS)}, {ALL}")
    return list(dict.fromkeys(names))


def engine_class(name: str) -> type[Engine]:
    """The class for an engine's name; ``version`` imports the engine itself."""
    module, _, attribute = ENGINES[name].partition(":")
    found: type[Engine] = getattr(importlib.import_module(module), attribute)
    return found
