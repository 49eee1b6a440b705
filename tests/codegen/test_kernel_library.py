"""A level's library is built ahead of time, and runs any shape without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import HERE, random_case, reference, seed_of

from ladder.codegen.kernel_library import build_kernels, recipes_of
from ladder.codegen.kernels.library import KERNELS, kernel, name_of
from ladder.codegen.layout import blocks_of, total_chunks
from ladder.ir.dtype import DType
from ladder.support import entries
from ladder.timing import kernel_cache
from ladder.timing.catalogue import all_types

pytestmark = pytest.mark.kernels

LEVEL = HERE[-1]
TYPES = [DType.parse(text) for text in ("int4:g32", "nf4:g32")]
SHAPES = [(1, 70, 83), (5, 3, 33)]  # M, N, K
# Runs in a process of its own: TVM's runtime alone, where nothing can be compiled.
CALLER = """
import sys
import numpy as np, tvm, tvm_ffi
assert tvm_ffi.get_global_func("target.build.llvm", allow_missing=True) is None
library = tvm_ffi.load_module(sys.argv[1])
def tensor(array):
    return tvm.runtime.tensor(np.ascontiguousarray(array))
for file in sys.argv[2:]:
    case = np.load(file)
    m, c, b, n = (int(v) for v in case["sizes"])
    q, scale = tensor(np.zeros((m, c, 16), np.int8)), tensor(np.zeros((m, b), np.float32))
    total, out = tensor(np.zeros((m, b), np.int32)), tensor(np.zeros((m, n), np.float32))
    parallel = "_parallel" if m > 1 else ""
    library["quantize_activation_int8_k32" + parallel](tensor(case["x"]), q, scale, total)
    weights = [tensor(case[f"weight{i}"]) for i in range(int(case["weights"]))]
    library[str(case["name"])](q, scale, total, *weights, out)
    np.testing.assert_array_equal(out.numpy(), case["expected"])
print(len(sys.argv) - 2, "cases")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    assert build_kernels(LEVEL, TYPES, path) == len(recipes_of(TYPES, LEVEL.kernels))
    return path


def test_new_shapes_compile_nothing(library: Path, tmp_path: Path) -> None:
    files = []
    for number, (dtype, (m, n, k)) in enumerate((t, s) for t in TYPES for s in SHAPES):
        case = random_case(np.random.default_rng(seed_of("library", str(dtype))), dtype, m, n, k)
        name = name_of(kernel("dot_gemm", case.packing, "int8", LEVEL.kernels))
        weights = case.weights()
        files.append(tmp_path / f"{number}.npz")
        arrays = {f"weight{i}": weight for i, weight in enumerate(weights)}
        arrays |= {
            "sizes": np.array([m, total_chunks(k, dtype.block), blocks_of(k, dtype.block), n]),
            "x": case.x,
            "name": np.array(name),
            "weights": np.array(len(weights)),
            "expected": reference(case, "int8"),
        }
        np.savez(files[-1], allow_pickle=False, **arrays)
    done = subprocess.run(
        [sys.executable, "-c", CALLER, str(library), *map(str, files)],
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 cases\n"


@pytest.mark.parametrize("family", KERNELS)
def test_every_type_has_every_scheme(family: str) -> None:
    recipes = recipes_of(all_types(), family)
    packings = {r.packing for r in recipes if r.op == "dot_gemm"}
    assert len(packings) >= len({t.name for t in all_types()})
    products = {op for op in KERNELS[family] if op.endswith("_gemm")}
    assert {r.op for r in recipes if r.packing} == products
    assert {r.block for r in recipes if r.op == "table8"} == {t.block for t in all_types()}


def test_the_cache_gives_kernels_by_name(library: Path, own_cache: Path) -> None:
    """Once a level's library exists, kernels are loaded from it."""
    dtype = TYPES[0]
    place = kernel_cache.place_of(LEVEL)
    with entries.put(place.parent, place.name) as aside:
        aside.write_bytes(library.read_bytes())
    kernel_cache.forget()
    try:
        packing = random_case(np.random.default_rng(0), dtype, 1, 3, 33).packing
        name = name_of(kernel("dot_gemm", packing, "int8", LEVEL.kernels))
        assert kernel_cache.function(name, LEVEL.name) is not None
        assert kernel_cache.function("dot_gemm_of_another_type", LEVEL.name) is None
    finally:
        entries.drop(place.parent, place.name)
        kernel_cache.forget()
