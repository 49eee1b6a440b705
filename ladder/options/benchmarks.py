"""Options of ``ladder bench kernel`` and ``ladder bench device``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.errors import LadderError
from ladder.hardware.targets import NATIVE
from ladder.options.requests import DEFAULT_TYPES, TargetOptions
from ladder.options.schema import described, option, read_all

if TYPE_CHECKING:
    from ladder.ir.dtype import DType

SHAPE = "1x4096x4096"
PRODUCT, EVERY, PEERS = "The product", "With --all-types", "With --peers"
OUTLIERS = "With --outliers"
_TARGET = described(TargetOptions)


@dataclass(frozen=True)
class BenchOptions:
    """Options of ``ladder bench kernel``."""

    type: DType = option("int4:g128", "Type of the weights; see 'ladder types'.", panel=PRODUCT)
    shape: tuple[str, ...] = option(
        (),
        f"MxNxK: tokens, out features, in features (default {SHAPE}). With --peers give several, "
        "separated by commas or repeated.",
        metavar="MxNxK",
        panel=PRODUCT,
    )
    activation: str = option(
        "int8",
        _TARGET["activation"].option.help,
        flags=("--activation", "--activations"),
        panel=PRODUCT,
    )
    scheme: str = option("auto", "Kernels: auto, lut, dot or tile.", panel=PRODUCT)
    target: str = option(NATIVE, _TARGET["target"].option.help, panel=PRODUCT)
    threads: str = option(
        "0", "Threads (0: all cores). With --peers several, for example 1,2.", panel=PRODUCT
    )
    all_types: bool = option(
        False, "Time every type, at M = 1, 32 and 128.", flags=("--all-types",), panel=EVERY
    )
    against: str = option("", "tvm: also time TVM's default pipeline, without Ladder.", panel=EVERY)
    save_costs: Path | None = option(
        None, "Write a cost table of every scheme.", metavar="FILE", panel=EVERY
    )
    outliers: float = option(
        0.0, "Share of outlier channels along K: times the muxed and the plain product.",
        panel=OUTLIERS,
    )  # fmt: skip
    mux: str = option(
        "digits6", "How outliers are represented: digits6, muxq2, ...", panel=OUTLIERS
    )
    peers: str = option(
        "",
        "Also benchmark these engines: onnxruntime, openvino, torch, llama-cpp, separated by "
        "commas, or all.",
        panel=PEERS,
    )
    types: tuple[str, ...] = option(
        (), "Types of Ladder, separated by commas; peers show the same bits.", splits=",",
        panel=PEERS,
    )  # fmt: skip
    rounds: int = option(5, "Turns that each product gets.", least=1, panel=PEERS)
    resume: Path | None = option(
        None, "Save results here as they come; a later run resumes from it.", metavar="FILE",
        panel=PEERS,
    )  # fmt: skip
    performance_page: Path | None = option(
        None, "Page to write the tables to; measures the page's shapes.", metavar="FILE",
        panel=PEERS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        read_all(self)

    @property
    def shapes(self) -> list[str]:
        return [part for text in self.shape for part in text.split(",")]

    @property
    def thread_counts(self) -> list[int]:
        """The numbers of threads to time with; 0 is all cores."""
        return [_whole(text) for text in self.threads.split(",")]

    def check(self) -> None:
        """Refuse options that do not belong to the chosen way of measuring."""
        if self.peers:
            return
        for name in ("types", "resume", "performance_page"):
            if getattr(self, name):
                flag = described(BenchOptions)[name].flags[0]
                raise LadderError(f"{flag} needs --peers; add for example --peers all")
        if len(self.shapes) > 1:
            raise LadderError("several --shape need --peers; give one shape, or add --peers all")
        if len(self.thread_counts) > 1:
            raise LadderError(f"--threads '{self.threads}': give one number, or add --peers all")


def _whole(text: str) -> int:
    if not text.strip().isdigit():
        raise LadderError(f"--threads '{text}': give a positive number, or 0 for all cores")
    return int(text)


@dataclass(frozen=True)
class DeviceOptions:
    """Options of ``ladder bench device``."""

    shape: tuple[str, ...] = option(
        (), "Shape of a product: out features x in features. Repeatable.", metavar="NxK"
    )
    types: tuple[DType, ...] = option(
        DEFAULT_TYPES, "Types to time, separated by commas.", splits=","
    )
    target: str = option(NATIVE, _TARGET["target"].option.help)
    activation: str = option(
        "int8", _TARGET["activation"].option.help, flags=("--activation", "--activations")
    )
    chunk: int = option(64, _TARGET["chunk"].option.help, least=1)
    threads: int = option(0, "Threads (0: all cores that this process may use).", least=0)
    rpc: str = option(
        "", "TVM's RPC server on the device (default: this machine).", metavar="HOST:PORT"
    )

    def __post_init__(self) -> None:
        read_all(self)

    def check(self) -> None:
        """Refuse an invalid combination."""
        if self.rpc and self.target == NATIVE:
            raise LadderError("--rpc needs the device's --target; see 'ladder targets'")
