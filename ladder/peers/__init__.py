"""Other engines beside Ladder: the same products, in turns, each engine in a process of its own."""

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
    """``--peers``: names with commas between, or ``all``."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [ALL]:
        return [*PEERS]
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        what = f"unknown peer '{unknown[0]}'" if unknown else "--peers is empty"
        raise LadderError(f"{what}; one of: {', '.join(PEERS)}, {ALL}")
    return list(dict.fromkeys(names))


def engine_class(name: str) -> type[Engine]:
    """The class behind an engine's name; the engine itself is imported when asked its version."""
    module, _, attribute = ENGINES[name].partition(":")
    found: type[Engine] = getattr(importlib.import_module(module), attribute)
    return found
