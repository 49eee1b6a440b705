"""llama.cpp: its quantized matrix products, called through the C interface of ggml's libraries.

Weights are placed as by llama.cpp itself: in the first buffer type of the CPU device that supports
the product (AMX tiles, repacked rows), else in plain memory.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladder.hardware.targets import cpu_flags
from ladder.peers.engine import EVERY, F32, F64, TERNARY, Engine, Kind, Weight, activation
from ladder.timing.rotation import copies_of

FOLDER_VARIABLE = "LADDER_GGML"
PACKAGES = ("llama_cpp", "llama_cpp_py_sync", "libggml")  # names to import
NPM = Path("node_modules/@node-llama-cpp/linux-x64/bins/linux-x64")
TYPES = {
    "Q1_0": "1",
    "TQ1_0": TERNARY,
    "TQ2_0": TERNARY,
    "Q2_K": "2",
    "Q3_K": "3",
    "Q4_0": "4",
    "Q4_K": "4",
    "Q8_0": "8",
}
FLOAT32, MOST_TYPES = 0, 64
DISTINCT_ROWS = 7 * 64  # are quantized; the weight repeats them
STEPS, LEAST_A_STEP = 8, 4  # ggml starts its threads again for every graph
POINTERS = (
    "ggml_init ggml_new_tensor_2d ggml_mul_mat ggml_new_graph_custom ggml_gallocr_new "
    "ggml_backend_dev_by_type ggml_backend_dev_init ggml_backend_dev_buffer_type "
    "ggml_backend_dev_backend_reg ggml_backend_reg_get_proc_address "
    "ggml_backend_alloc_ctx_tensors_from_buft"
).split()
SIZES = "ggml_row_size ggml_tensor_overhead ggml_graph_overhead_custom ggml_quantize_chunk".split()
NAMES = "ggml_type_name ggml_version ggml_backend_buft_name".split()
FEATURES = "avx2 avx_vnni avx512 avx512_vbmi avx512_vnni amx_int8".split()


class _Init(ctypes.Structure):
    """struct ggml_init_params"""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Ggml:
    """The libraries in one folder, as one set of C functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base, main = (_library(folder, stem) for stem in ("libggml-base", "libggml"))
        self._loaded = [ctypes.CDLL(str(f), ctypes.RTLD_GLOBAL) for f in (base, main)]
        for names, kind in ((POINTERS, ctypes.c_void_p), (SIZES, ctypes.c_size_t)):
            for name in names:
                self[name].restype = kind
        for name in NAMES:
            self[name].restype = ctypes.c_char_p
        self["ggml_init"].argtypes = [_Init]
        self["ggml_blck_size"].restype = ctypes.c_int64
        self["ggml_backend_dev_supports_op"].restype = ctypes.c_bool
        self["ggml_gallocr_alloc_graph"].restype = ctypes.c_bool
        self._silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda *_: None
        )
        self["ggml_log_set"](self._silent, None)
        self["ggml_backend_load_all_from_path"](str(folder).encode())

    def __getitem__(self, name: str) -> Any:
        found = (getattr(library, name, None) for library in self._loaded)
        function = next((f for f in found if f is not None), None)
        if function is None:
            raise OSError(f"{self.folder}: its ggml has no {name}")
        return function

    def call(self, name: str, *args: Any) -> Any:
        """Call a function by name; addresses and sizes are passed as 64 bits."""
        return self[name](*(ctypes.c_int64(a) if isinstance(a, int) else a for a in args))

    def type_number(self, name: str) -> int | None:
        """The number of a type in this version; None if it has no type of that name."""
        wanted = name.lower().encode()
        every = range(MOST_TYPES)
        return next((i for i in every if (_type_name(self, i) or b"").lower() == wanted), None)


def _type_name(ggml: Ggml, number: int) -> bytes | None:
    """The name of a type; None after the last one, where ggml would read beyond its table."""
    if number > FLOAT32 and ggml.call("ggml_blck_size", number) <= 0:
        return None
    name: bytes | None = ggml.call("ggml_type_name", number)
    return name


def _library(folder: Path, stem: str) -> Path:
    """The path of libggml.so, libggml.so.0 or libggml.v1.2.so."""
    found = sorted(f for f in folder.glob(f"{stem}*.so*") if f.name[len(stem)] == ".")
    if not found:
        raise ImportError(f"no {stem} in {folder}")
    return found[0]


def folders() -> list[Path]:
    """Folders with ggml's shared libraries: LADDER_GGML, an npm package nearby, Python packages."""
    if FOLDER_VARIABLE in os.environ:
        return [Path(os.environ[FOLDER_VARIABLE])]
    here = Path.cwd()
    places = [above / NPM for above in (here, *here.parents)]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            places += [Path(root), Path(root) / "lib", Path(root) / "lib64"]
    return [place for place in places if any(place.glob("libggml-base*.so*"))]


def load() -> Ggml:
    """The first libraries that this system can load."""
    reasons = []
    for folder in folders():
        try:
            return Ggml(folder)
        except OSError as error:
            reasons.append(str(error))
    raise ImportError("; ".join(reasons) or "no ggml libraries were found")


class LlamaCpp(Engine):
    name, package = "llama-cpp", "libggml-python"

    def version(self) -> str:
        self._ggml = load()
        device = self._ggml.call("ggml_backend_dev_by_type", 0)
        if not device:
            raise OSError(f"{self._ggml.folder}: no CPU backend could be loaded")
        self._device = ctypes.c_void_p(device)
        self._backend = ctypes.c_void_p(
            self._ggml.call("ggml_backend_dev_init", self._device, None)
        )
        self._set_threads()
        return f"ggml {self._ggml.call('ggml_version').decode()}"

    def _set_threads(self) -> None:
        function = self._proc("ggml_backend_set_n_threads")
        assert function, "ggml's CPU backend takes a number of threads"
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(function)(self._backend, self.threads)

    def _proc(self, name: str) -> int | None:
        registry = ctypes.c_void_p(self._ggml.call("ggml_backend_dev_backend_reg", self._device))
        found: int | None = self._ggml.call(
            "ggml_backend_reg_get_proc_address", registry, name.encode()
        )
        return found

    def features(self) -> set[str]:
        """Instruction sets that the loaded backend was built with and the machine has."""

        class Feature(ctypes.Structure):
            _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))

        function = self._proc("ggml_backend_get_features")
        if not function:
            return set()
        registry = ctypes.c_void_p(self._ggml.call("ggml_backend_dev_backend_reg", self._device))
        rows = ctypes.CFUNCTYPE(ctypes.POINTER(Feature), ctypes.c_void_p)(function)(registry)
        out, i = set(), 0
        while rows[i].name:
            out.add(rows[i].name.decode().lower())
            i += 1
        return out & {*FEATURES}

    def isa(self) -> str:
        return " ".join(f for f in FEATURES if f in self.features())

    def notes(self) -> list[str]:
        lacking = {"avx512_vnni", "amx_int8"} & cpu_flags() - self.features()
        if not lacking:
            return []
        return [
            f"llama-cpp: this build of ggml lacks {', '.join(sorted(lacking))}, which the CPU "
            "has; one that has them: npm install @node-llama-cpp/linux-x64"
        ]

    def kinds(self, n: int, k: int) -> list[Kind]:
        found = [(t, bits) for t, bits in TYPES.items() if self._ggml.type_number(t) is not None]
        return [Kind(t, bits, "mul_mat") for t, bits in found]

    def buffer_types(self) -> list[ctypes.c_void_p]:
        """The CPU device's own buffer types, then plain memory, in llama.cpp's order."""
        out = []
        function = self._proc("ggml_backend_dev_get_extra_bufts")
        if function:
            kind = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
            rows, i = kind(function)(self._device), 0
            while rows[i]:
                out.append(ctypes.c_void_p(rows[i]))
                i += 1
        plain = self._ggml.call("ggml_backend_dev_buffer_type", self._device)
        return [*out, ctypes.c_void_p(plain)]

    def weight(self, kind: Kind, n: int, k: int, tokens: Sequence[int], rotate: float) -> Weight:
        number = self._ggml.type_number(kind.type)
        assert number is not None
        return _Products(self, number, kind.type, (n, k), tokens, rotate)


class _Products(Weight):
    def __init__(
        self,
        engine: LlamaCpp,
        number: int,
        name: str,
        shape: tuple[int, int],
        tokens: Sequence[int],
        rotate: float,
    ) -> None:
        self._engine, self._ggml, self._number = engine, engine._ggml, number
        (self._n, k), block = shape, int(self._ggml.call("ggml_blck_size", number))
        self._k, self._padded = k, -(-k // block) * block
        self._row_bytes = int(self._ggml.call("ggml_row_size", number, self._padded))
        self.stored_bytes = self._n * self._row_bytes
        copies = copies_of(self.stored_bytes, rotate)
        self.per_step = max(LEAST_A_STEP, -(-copies // STEPS))
        self.steps = -(-copies // self.per_step)
        self._rows = self._quantized()
        self._weights = self._allocated()
        self._name = name
        self._graphs = {m: [self._graph(m, s) for s in range(self.steps)] for m in tokens}

    def _quantized(self) -> np.ndarray:
        """DISTINCT_ROWS rows as ggml quantizes them, with zeros after K: uint8 [rows, bytes]."""
        rows = min(DISTINCT_ROWS, self._n)
        floats = np.zeros((rows, self._padded), np.float32)
        floats[:, : self._k] = np.random.default_rng(0).standard_normal((rows, self._k), np.float32)
        out = np.zeros((rows, self._row_bytes), np.uint8)
        self._ggml.call(
            "ggml_quantize_chunk", self._number, floats.ctypes.data, out.ctypes.data,
            0, rows, self._padded, None,
        )  # fmt: skip
        return out

    def _allocated(self) -> list[ctypes.c_void_p]:
        ggml, engine = self._ggml, self._engine
        copies, data = self.steps * self.per_step, self._row_data()
        for buffer_type in engine.buffer_types():
            context = self._context(copies)
            weights = [
                ctypes.c_void_p(
                    ggml.call("ggml_new_tensor_2d", context, self._number, self._padded, self._n)
                )
                for _ in range(copies)
            ]
            buffer = ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", context, buffer_type)
            if buffer and self._supported(weights[0]):
                self._buffer = ggml.call("ggml_backend_buft_name", buffer_type).decode()
                for weight in weights:
                    ggml.call("ggml_backend_tensor_set", weight, data.ctypes.data, 0, data.nbytes)
                self._held = [context, ctypes.c_void_p(buffer)]
                return weights
            if buffer:
                ggml.call("ggml_backend_buffer_free", ctypes.c_void_p(buffer))
            ggml.call("ggml_free", context)
        raise OSError(f"no buffer of ggml takes {self._n} x {self._k}")

    def _row_data(self) -> np.ndarray:
        repeats = -(-self._n // len(self._rows))
        return np.ascontiguousarray(np.tile(self._rows, (repeats, 1))[: self._n])

    def _supported(self, weight: ctypes.c_void_p) -> bool:
        ggml, context = self._ggml, self._context(2)
        x = ggml.call("ggml_new_tensor_2d", context, FLOAT32, self._padded, 1)
        product = ggml.call("ggml_mul_mat", context, weight, ctypes.c_void_p(x))
        return bool(
            ggml.call(
                "ggml_backend_dev_supports_op", self._engine._device, ctypes.c_void_p(product)
            )
        )

    def _context(self, tensors: int, graph: int = 0) -> ctypes.c_void_p:
        """Room for the headers of tensors and a graph; their data is elsewhere."""
        ggml = self._ggml
        size = (tensors + 2) * ggml.call("ggml_tensor_overhead")
        size += ggml.call("ggml_graph_overhead_custom", graph, False) if graph else 0
        return ctypes.c_void_p(ggml["ggml_init"](_Init(size, None, True)))

    def _graph(self, m: int, step: int) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
        """One step: products of one activation with ``per_step`` weights, and the first of them."""
        ggml, count = self._ggml, self.per_step
        nodes = 2 * count + 16
        context = self._context(nodes, nodes)
        x = ctypes.c_void_p(ggml.call("ggml_new_tensor_2d", context, FLOAT32, self._padded, m))
        ggml.call("ggml_set_input", x)
        graph = ctypes.c_void_p(ggml.call("ggml_new_graph_custom", context, nodes, False))
        products = []
        for weight in self._weights[step * count :][:count]:
            products.append(ctypes.c_void_p(ggml.call("ggml_mul_mat", context, weight, x)))
            ggml.call("ggml_build_forward_expand", graph, products[-1])
        ggml.call("ggml_set_output", products[0])
        plain = self._engine.buffer_types()[-1]
        memory = ctypes.c_void_p(ggml.call("ggml_gallocr_new", plain))
        if not ggml.call("ggml_gallocr_alloc_graph", memory, graph):
            raise MemoryError("ggml found no memory for a graph")
        values = np.zeros((m, self._padded), np.float32)
        values[:, : self._k] = activation(m, self._k)
        ggml.call("ggml_backend_tensor_set", x, values.ctypes.data, 0, values.nbytes)
        return graph, products[0]

    def run(self, m: int, step: int) -> None:
        status = self._ggml.call(
            "ggml_backend_graph_compute", self._engine._backend, self._graphs[m][step][0]
        )
        if status:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")

    def output(self, m: int) -> F32:
        self.run(m, 0)
        out = np.zeros((m, self._n), np.float32)
        self._ggml.call(
            "ggml_backend_tensor_get", self._graphs[m][0][1], out.ctypes.data, 0, out.nbytes
        )
        return out

    def dequantized(self) -> F64:
        rows = np.zeros((len(self._rows), self._padded), np.float32)
        self._ggml.call(
            f"dequantize_row_{self._name.replace('Q', 'q').replace('T', 't')}",
            self._rows.ctypes.data, rows.ctypes.data, rows.size,
        )  # fmt: skip
        every = np.arange(0, self._n, EVERY) % len(rows)
        return rows[every, : self._k].astype(np.float64)

    def scheme(self, m: int) -> str:
        padded = f", K padded to {self._padded}" if self._padded != self._k else ""
        return f"mul_mat, buffer {self._buffer}{padded}"
