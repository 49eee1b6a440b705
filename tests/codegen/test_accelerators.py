"""Folders of kernels for the NPU and the GPU, and their contents for host programs."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulation.opencl import evaluated
from kernel_cases import random_case, seed_of

from ladder.codegen.hexagon_library import build_hexagon
from ladder.codegen.inner_loop import assembly
from ladder.codegen.kernels import hvx
from ladder.codegen.layout import Packing, blocks_of, total_chunks
from ladder.hardware.targets import ACCELERATORS
from ladder.ir.dtype import DType

pytestmark = pytest.mark.kernels

Cli = Callable[..., Any]
HEXAGON = [a for a in ACCELERATORS.values() if a.arch == "hexagon"]
FLAGS_AT = 36  # e_flags of a 32-bit ELF file; the low byte names Hexagon's version
INT4 = DType.parse("int4:g128")


@pytest.mark.parametrize("npu", HEXAGON, ids=lambda npu: npu.name)
def test_objects_have_their_version_and_read_aligned_vectors(npu: Any, tmp_path: Path) -> None:
    build_hexagon(npu.config, [INT4], tmp_path)
    image = (tmp_path / "ladder_kernels.o").read_bytes()
    (flags,) = struct.unpack_from("<I", image, FLAGS_AT)
    assert f"hexagonv{flags & 0xFF:x}" == npu.config["mcpu"]
    for mode in ("int8", "table8"):
        (text,) = assembly([hvx.lut_gemm(Packing.of(INT4), mode)], npu.config).values()
        assert ".b = vlut32(" in text and ".b |= vlut32(" in text and "vrmpy(" in text
        assert "vmem(" in text and "vmemu(" not in text


def test_the_npu_gets_an_object_and_a_header(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "npu"
    target = ("--target", "snapdragon-x-elite-npu")
    row = cli("kernels", "build", *target, "--type", "int4:g128", "-o", folder, "--json").json
    assert row["files"] == ["ladder_kernels.h", "ladder_kernels.o"] and row["kernels"] == 6
    header = (folder / "ladder_kernels.h").read_text()
    assert "/* int4:g128 */" in header and "hexagonv73" in header
    assert "planes [NT, P, 4, 32]" in header
    assert "void lut_gemm_hvx_table8_b4_k128g_o8(\n    const int8_t *activation,\n" in header
    assert "    float *out,\n    int32_t M, " in header


def test_the_gpu_gets_sources_and_a_description_that_fits_the_weights(
    cli: Cli, tmp_path: Path
) -> None:
    folder = tmp_path / "gpu"
    types = ("--type", "uint3:g48:zp", "--type", "ternary:tensor")
    words = ("kernels", "build", "--target", "snapdragon-x-elite-gpu", *types, "-o", folder)
    assert cli(*words, "--json").json["types"] == ["uint3:g48:zp", "ternary:tensor"]
    index = json.loads((folder / "kernels.json").read_text())
    for name, file in index["files"].items():
        source = (folder / name).read_text()
        assert "#pragma OPENCL FP_CONTRACT OFF" in source and "dot_4x8packed_us_int" in source
        dtype = DType.parse(file["types"][0])
        n, k = 70, 333
        case = random_case(np.random.default_rng(seed_of(name)), dtype, 1, n, k)
        known = {"M": 1, "N": n, "K": k}
        for size, text in file["sizes"].items():
            known[size] = evaluated(text, known)
        assert known["B"] == blocks_of(k, dtype.block)
        assert known["C"] == total_chunks(k, dtype.block)
        for kernel in file["kernels"]:
            assert f"__kernel void {kernel['kernel']}(" in source
            assert ("__local" in source) and kernel["arguments"]
        dot = next(kernel for kernel in file["kernels"] if kernel["op"] == "dot_gemm")
        planes = next(a for a in dot["arguments"] if a["name"] == "planes")
        shape = tuple(evaluated(dim, known) for dim in planes["shape"])
        assert shape == case.weights()[0].shape


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "snapdragon-x-elite-npu"), "several files: give a folder with -o"),
        (
            ("--target", "snapdragon-x-elite-npu", "--type", "nf4:g64", "-o", "FOLDER"),
            "type 'nf4:g64' has no kernel: code books are not supported on Hexagon",
        ),
        (("--target", "x86-64", "--type", "int4:g64"), "--type is only for hexagon-v68"),
        (("--target", "snapdragon-x-elite-gpu", "--type", "int9", "-o", "FOLDER"), "unknown type"),
    ],
)
def test_refusals(cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    given = [str(tmp_path / word) if word == "FOLDER" else word for word in words]
    ran = cli("kernels", "build", *given)
    assert ran.code == 2 and message in ran.err and len(ran.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_whole_models_are_refused_with_the_way_out(cli: Cli, tmp_path: Path) -> None:
    words = ("compile", "model.onnx", "-o", tmp_path / "a", "--target", "snapdragon-x-elite-gpu")
    ran = cli(*words, "--type", "int4:g64")
    assert ran.code == 2 and "ladder kernels build --target snapdragon-x-elite-gpu" in ran.err
