"""Imports point one way: frontends, passes and code generators meet in the IR alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import FOLDERS, own_modules, python_files

BASE = ("ladder.errors", "ladder.progress", "ladder.targets")
IR = ("ladder.ir", *BASE)
# Layer -> what it may import of Ladder, itself aside.
LAYERS = {
    "ladder.ir": ("ladder.errors", "ladder.progress"),
    "ladder.frontend": IR,
    "ladder.passes": IR,
    "ladder.codegen": IR,
    "ladder.runtime": ("ladder.errors", "ladder.targets"),
    "ladder.errors": (),
    "ladder.progress": (),
    "ladder.targets": ("ladder.errors",),
    "ladder.devices": (),
    "ladder.accelerator_facts": ("ladder.devices",),
    "ladder.budgets": ("ladder.errors",),
    "ladder.projection": (
        "ladder.accelerator_facts",
        "ladder.budgets",
        "ladder.devices",
        "ladder.targets",
        *IR,
    ),
    "ladder.cache": ("ladder.errors",),
    "ladder.files": ("ladder.errors",),
    "ladder.packages": ("ladder.cache", "ladder.errors"),
    "ladder.evaluate": BASE,
    "ladder.texts": ("ladder.errors", "ladder.frontend"),
    "ladder.config": IR,
    "ladder.costs": ("ladder.cache", "ladder.files", "ladder.runtime", *IR),
    "ladder.wish": ("ladder.passes", *IR),
    "ladder.reference": IR,
    "ladder.sensitivity": (
        "ladder.cache",
        "ladder.texts",
        "ladder.files",
        "ladder.frontend",
        "ladder.packages",
        "ladder.passes",
        "ladder.reference",
        "ladder.scoring",
        *IR,
    ),
    "ladder.planning.pareto": ("ladder.passes", "ladder.files", *IR),
    "ladder.planning.file": ("ladder.passes", "ladder.files", *IR),
    "ladder.export": (
        "ladder.frontend",
        "ladder.passes",
        "ladder.files",
        "ladder.planning.file",
        *IR,
    ),
}
# They may see several layers.
DRIVERS = frozenset(
    {
        "ladder",
        "ladder.__main__",
        "ladder.api",
        "ladder.bench_kernel",
        "ladder.bench_mux",
        "ladder.bench_types",
        "ladder.calibrated",
        "ladder.cli",
        "ladder.compile_report",
        "ladder.demo",
        "ladder.driver",
        "ladder.kernel_cache",
        "ladder.peers",
        "ladder.planning",
        "ladder.plugin",
        "ladder.product_costs",
        "ladder.remote",
        "ladder.report_page",
        "ladder.scoring",
        "ladder.tune",
    }
)
HEAVY = ("torch", "onnx", "onnx_ir", "onnxscript", "transformers", "onnxruntime")
MODULES = own_modules()


def within(name: str, packages: frozenset[str] | tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages if p != "ladder")


def imported(path: Path) -> Iterator[tuple[int, int, str]]:
    """(line, level of relative imports, module) of every import, those in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                name = whole if whole in MODULES else node.module or ""
                yield node.lineno, node.level, name


def test_every_module_has_a_layer() -> None:
    strays = [m for m in MODULES if m not in DRIVERS and not within(m, (*LAYERS, *DRIVERS))]
    assert not strays, f"say in LAYERS or DRIVERS what they may import: {strays}"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_under_it(layer: str) -> None:
    allowed = (layer, *LAYERS[layer])
    wrong = [
        f"{path}:{line} imports {name}"
        for module, path in MODULES.items()
        if within(module, (layer,))
        for line, _, name in imported(path)
        if name.split(".")[0] == "ladder" and not within(name, allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_are_absolute_and_under_ladder() -> None:
    """``import passes.base`` would be a second copy of ``ladder.passes.base``."""
    bare = FOLDERS[1:]
    wrong = [
        f"{path}:{line} {'.' * level}{name}"
        for path in python_files()
        for line, level, name in imported(path)
        if level or within(name, bare)
    ]
    assert not wrong, "\n".join(wrong)


def loaded_by(code: str) -> list[str]:
    """The names among HEAVY that a fresh Python has loaded after ``code``."""
    show = f"import sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_the_runtime_imports_nothing_heavy() -> None:
    assert loaded_by("import ladder.runtime") == []
    assert loaded_by("import ladder.runtime.session, ladder.runtime.language_model") == []


def test_the_package_and_the_command_line_import_nothing_heavy() -> None:
    assert loaded_by("import ladder, ladder.cli.app") == []


@pytest.mark.models
@pytest.mark.xdist_group("cli")
def test_running_an_artifact_loads_no_compiler(tiny_artifact: Path) -> None:
    code = f"""
import ladder.runtime
list(ladder.runtime.load({str(tiny_artifact)!r}).stream([1, 2, 3], 4))
maps = open("/proc/self/maps").read()
assert "libtvm_runtime" in maps, "where is TVM's runtime?"
assert "libtvm_compiler" not in maps and "libLLVM" not in maps, "a compiler is loaded"
"""
    assert loaded_by(code) == []
