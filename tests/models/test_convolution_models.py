"""Small convolutional networks: the artifact and the exported ONNX file compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from quantized import quantize_onnx
from small_graphs import graph, meaning, quantized, random, stock
from torch import nn

import ladder
import ladder.runtime
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_convolutions import LowerConvolutions
from ladder.runtime.session import Session

pytestmark = pytest.mark.models

RELATIVE = 1e-3
ROUNDED_ACTIVATIONS = 0.1
TYPE = "int8:row"


def mobile() -> nn.Module:
    """Stem, depthwise and pointwise with a residual, pooling, a classifier."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.point = nn.Conv2d(channels, channels, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = x + self.point(torch.relu(self.depth(x)))
            return out

    torch.manual_seed(3)
    stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
    wide = nn.Conv2d(24, 36, 3, dilation=2, padding=2, groups=3)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(36, 10)]
    return nn.Sequential(stem, nn.ReLU6(), Block(24), wide, nn.ReLU(), *head).eval()


def speech() -> nn.Module:
    """One dimension: strides, dilation, a pooling, a pointwise layer."""
    torch.manual_seed(4)
    layers = [nn.Conv1d(5, 16, 4, stride=2, padding=1), nn.ReLU(), nn.MaxPool1d(2)]
    rest = [nn.Conv1d(16, 33, 3, dilation=2, bias=False), nn.SiLU(), nn.Conv1d(33, 7, 1)]
    return nn.Sequential(*layers, *rest).eval()


NETWORKS = {"mobile": (mobile, (2, 3, 17, 16)), "speech": (speech, (1, 5, 40))}


@pytest.fixture(params=NETWORKS, scope="module")
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    """An ONNX file from torch, and inputs."""
    make, shape = NETWORKS[request.param]
    file, x = tmp_path_factory.mktemp("network") / "model.onnx", random(*shape)
    inputs = (torch.from_numpy(x),)
    torch.onnx.export(make(), inputs, file, input_names=["x"], dynamo=True, verbose=False)
    return file, {"x": x}


def compiled(file: Path, folder: Path, type: str, activation: str) -> Session:
    ladder.compile(file, folder, type=type, activation=activation, rounding="rtn")
    session = ladder.runtime.load(folder)
    assert isinstance(session, Session)
    return session


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The error relative to the largest value."""
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("type", ["int8:row", "int4:g32"])
def test_network(network: tuple[Path, dict[str, np.ndarray]], type: str, tmp_path: Path) -> None:
    file, feeds = network
    report = quantize_onnx(file, tmp_path / "out.onnx", type, rounding="rtn")
    assert not report["skipped"]
    assert {row["role"] for row in report["sites"]} >= {"conv"}
    (wanted,) = stock(tmp_path / "out.onnx", feeds)
    (exact,) = compiled(file, tmp_path / "fp32", type, "fp32").run(feeds).values()
    assert error(exact, wanted) <= RELATIVE
    (rounded,) = compiled(file, tmp_path / "int8", type, "int8").run(feeds).values()
    assert error(rounded, wanted) <= ROUNDED_ACTIVATIONS


ONE = "g (float[{x}] x) => (float[{rank}] y) {{ y = Conv<{options}>(x, w{bias}) }}"
WINDOWS = {
    "1x1": ((2, 40, 5, 7), (9, 40, 1, 1), "strides = [1, 1]", True),
    "strided": ((1, 6, 9, 10), (8, 6, 3, 3), "pads = [1, 1, 1, 1], strides = [2, 2]", True),
    "dilated": ((1, 6, 9, 10), (8, 6, 3, 2), "dilations = [2, 3], pads = [0, 1, 2, 3]", False),
    "same": ((1, 3, 11, 8), (8, 3, 4, 3), 'auto_pad = "SAME_LOWER", strides = [2, 1]', True),
    "7x7": ((1, 3, 20, 21), (16, 3, 7, 7), "pads = [3, 3, 3, 3], strides = [2, 2]", True),
    "1-D": ((1, 8, 30), (5, 8, 5), "strides = [3], pads = [2, 1], dilations = [2]", True),
    "3-D": ((1, 4, 5, 6, 7), (6, 4, 2, 3, 3), "strides = [1, 2, 1]", False),
    "depthwise": ((1, 70, 9, 8), (70, 1, 3, 3), "group = 70, pads = [1, 1, 1, 1]", True),
    "groups": ((1, 12, 9, 8), (8, 3, 3, 3), "group = 4, strides = [1, 2]", True),
    "depthwise 1-D": ((1, 70, 30), (70, 1, 5), "group = 70, pads = [4, 0]", False),
    "groups 3-D": ((1, 4, 5, 6, 7), (6, 2, 2, 3, 3), "group = 2", False),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_window(name: str, tmp_path: Path) -> None:
    """Each by itself: the artifact, the lowered graph and the exported file."""
    shape, kernel, options, bias = WINDOWS[name]
    rank = ", ".join("ABCDE"[: len(shape)])
    dims = ", ".join(map(str, shape))
    text = ONE.format(x=dims, rank=rank, options=options, bias=", b" if bias else "")
    weights = {"w": random(*kernel), **({"b": random(kernel[0], seed=1)} if bias else {})}
    file, feeds = tmp_path / "model.onnx", {"x": random(*shape, seed=2)}
    onnx.save(graph(text, weights), file)
    model = quantized(graph(text, weights), TYPE)
    run_passes(model, [LowerConvolutions()])
    (wanted,) = meaning(model, feeds)
    quantize_onnx(file, tmp_path / "out.onnx", TYPE, rounding="rtn")
    (exported,) = stock(tmp_path / "out.onnx", feeds)
    assert error(exported, wanted) <= RELATIVE
    (got,) = compiled(file, tmp_path / "artifact", TYPE, "fp32").run(feeds).values()
    assert error(got, wanted) <= RELATIVE
