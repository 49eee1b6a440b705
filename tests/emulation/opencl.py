"""Runs an OpenCL folder of kernels on PoCL, using only its description."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulation.apt import Missing

Array = npt.NDArray[Any]


def context() -> Any:
    """A CPU as an OpenCL device: PoCL, from its wheel or the system."""
    wanted = "OpenCL's CPU device is missing: pip install 'pyopencl[pocl]' (the extra dev has it)"
    try:
        import pyopencl as cl

        platforms = cl.get_platforms()
    except Exception as error:  # no module, no loader, no platform: each has its own class
        raise Missing(f"{wanted}; {error}") from error
    for platform in platforms:
        if "Portable Computing Language" in platform.name:
            return cl.Context(platform.get_devices())
    raise Missing(f"{wanted}, or Debian's pocl-opencl-icd; there are {platforms}")


class Program:
    """The kernels of one packing, built from ``kernels.json``."""

    def __init__(self, folder: Path, type: str) -> None:
        self.index = json.loads((folder / "kernels.json").read_text())
        files = self.index["files"]
        self.file = next(name for name in files if type in files[name]["types"])
        self.sizes, self.kernels = files[self.file]["sizes"], files[self.file]["kernels"]
        self.source = (folder / self.file).read_text()

    @cached_property
    def built(self) -> Any:
        import pyopencl as cl

        self.queue = cl.CommandQueue(context())
        program = cl.Program(self.queue.context, self.source)
        return program.build(options=self.index["build_options"].split())

    def find(self, op: str, mode: str, tokens: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = next(
            k for k in self.kernels if (k["op"], k["mode"], k["tokens"]) == (op, mode, tokens)
        )
        return found

    def run(
        self, kernel: dict[str, Any], given: dict[str, Array], **sizes: int
    ) -> dict[str, Array]:
        """Launch one kernel on M, N, K and its inputs by name; returns its outputs."""
        import pyopencl as cl

        known = dict(sizes)
        for name, text in self.sizes.items():
            known[name] = evaluated(text, known)
        program, flags = self.built, cl.mem_flags
        arguments: list[Any] = []
        outputs: dict[str, tuple[Any, Array]] = {}
        for argument in kernel["arguments"]:
            name = argument["name"]
            if "shape" not in argument:
                arguments.append(np.int32(known[name]))
                continue
            shape = tuple(evaluated(dim, known) for dim in argument["shape"])
            host = np.full(shape, 77, argument["type"])
            if argument["use"] == "in":
                host = np.ascontiguousarray(given[name])
                assert host.shape == shape and host.dtype == argument["type"], (name, shape)
            device = cl.Buffer(
                program.context, flags.READ_WRITE | flags.COPY_HOST_PTR, hostbuf=host
            )
            arguments.append(device)
            if argument["use"] == "out":
                outputs[name] = device, host
        entry = cl.Kernel(program, kernel["kernel"])
        grid = tuple(evaluated(text, known) for text in kernel["global"])
        entry(self.queue, grid, tuple(kernel["local"]), *arguments)
        for device, host in outputs.values():
            cl.enqueue_copy(self.queue, host, device)
        self.queue.finish()
        return {name: host for name, (_, host) in outputs.items()}


def evaluated(text: str, known: dict[str, int]) -> int:
    """An integer expression of the description: C's operators on numbers that are not negative."""
    return int(eval(text.replace("/", "//"), {"__builtins__": {}}, known))
