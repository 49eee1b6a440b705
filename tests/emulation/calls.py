"""Calls kernels of one library, in any Python: ``calls.py LIBRARY WORK OUT``.

WORK is a folder: ``calls.json`` has the buffers and the calls, ``arrays.npz`` the operands. Results
are written to OUT. This script needs only NumPy and TVM's runtime.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tvm
import tvm_ffi


def main(library: str, work: str, out: str) -> None:
    module, folder = tvm_ffi.load_module(library), Path(work)
    todo = json.loads((folder / "calls.json").read_text())
    arrays = np.load(folder / "arrays.npz")
    tensors = {name: tvm.runtime.tensor(arrays[name]) for name in arrays.files}
    for name, (shape, dtype) in todo["buffers"].items():
        tensors[name] = tvm.runtime.tensor(np.full(shape, 77, dtype))
    for kernel, operands in todo["calls"]:
        module[kernel](*(tensors[name] for name in operands))
    np.savez(out, **{name: tensors[name].numpy() for name in todo["results"]})


if __name__ == "__main__":
    main(*sys.argv[1:])
