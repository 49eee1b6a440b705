"""Keys of the cache follow the code that makes an entry, and no other code."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import own_modules

from ladder.support import cache, import_closure

# Modules that no entry of the cache depends on: they show, compare, search, or call the others.
WITHOUT_ENTRIES = (
    "ladder.__main__",
    "ladder.api",
    "ladder.cli",
    "ladder.codegen.hardware",
    "ladder.codegen.inner_loop",
    "ladder.demo",
    "ladder.samples",
    "ladder.evaluation",
    "ladder.export",
    "ladder.hardware.accelerators",
    "ladder.hardware.devices",
    "ladder.hardware.instruction_budgets",
    "ladder.hardware.projection",
    "ladder.hardware.tensor_cores",
    "ladder.options.benchmarks",
    "ladder.options.keywords",
    "ladder.options.running",
    "ladder.options.serving",
    "ladder.options.signature",
    "ladder.options.split",
    "ladder.options.user_types",
    "ladder.passes.allocate_bits",
    "ladder.passes.allocation",
    "ladder.passes.infra.registry",
    "ladder.passes.measure_sensitivity",
    "ladder.peers",
    "ladder.pipeline.file_bench",
    "ladder.pipeline.float_check.written",
    "ladder.pipeline.prepare",
    "ladder.pipeline.quantize",
    "ladder.pipeline.source_plan",
    "ladder.planning",
    "ladder.plugin",
    "ladder.runtime.bench",
    "ladder.runtime.prefix",
    "ladder.serving",
    "ladder.sensitivity.scaled",
    "ladder.support.marks",
    "ladder.support.quality",
    "ladder.support.disk_space",
    "ladder.timing.all_types",
    "ladder.timing.kernel_cache",
    "ladder.timing.muxed",
    "ladder.timing.tune",
)
KINDS = set(cache.MAKERS)
FROM_KERNELS = {"artifacts", "checks", "kernels", "tuned", "costs"}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of Ladder's source to change, from which digests are made."""
    root = tmp_path / "ladder"
    shutil.copytree(import_closure.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(import_closure, "ROOT", root)
    _forget()
    yield root
    _forget()


def _forget() -> None:
    for function in (import_closure.module_file, import_closure._imports, cache.code_digest):
        function.cache_clear()


def digests() -> dict[str, str]:
    _forget()
    return {kind: cache.code_digest(kind) for kind in cache.MAKERS}


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("demo", set()),
        ("cli/planning", set()),
        ("cli/app", set()),
        ("evaluation/report_page", set()),
        ("planning/make", set()),
        ("codegen/kernels/dot", FROM_KERNELS),
        ("codegen/relax_import", FROM_KERNELS),
        ("passes/kernel_choice", {"artifacts", "checks", "tuned", "costs"}),
        ("passes/round_weights", {"artifacts", "checks"}),
        (
            "passes/rounding/gptq",
            {"artifacts", "checks", "rounded", "ordered", "learned", "sensitivity"},
        ),
        ("calibration/hessians", {"artifacts", "hessians"}),
        ("frontend/huggingface", KINDS - {"kernels", "tuned", "costs"}),
        ("errors", KINDS),
    ],
)
def test_what_a_change_invalidates(module: str, changed: set[str]) -> None:
    name = f"ladder.{module.replace('/', '.')}"
    assert name in own_modules()
    assert {kind for kind, makers in cache.MAKERS.items() if name in _closure(makers)} == changed


def test_a_changed_file_changes_the_keys_that_depend_on_it(copy: Path) -> None:
    before = digests()
    for file in ("demo.py", "codegen/kernels/dot.py"):
        (copy / file).write_text((copy / file).read_text() + "\n# touched\n")
    assert {kind for kind, digest in digests().items() if digest != before[kind]} == FROM_KERNELS


def test_no_module_is_forgotten() -> None:
    followed = {name for kind in cache.MAKERS.values() for name in _closure(kind)}
    exempt = {
        name
        for name in own_modules()
        if any(name == other or name.startswith(f"{other}.") for other in WITHOUT_ENTRIES)
    }
    assert set(own_modules()) - followed - exempt == set()


def test_exemptions_exist() -> None:
    assert set(WITHOUT_ENTRIES) <= set(own_modules())


@functools.cache
def _closure(makers: tuple[str, ...]) -> set[str]:
    return set(import_closure.import_closure(*makers))


def test_what_counts_as_an_import(copy: Path) -> None:
    """Imports in functions count, those for type checkers do not, packages come with modules."""
    (copy / "new").mkdir()
    (copy / "new" / "__init__.py").write_text("")
    (copy / "new" / "a.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "import numpy\n"
        "if TYPE_CHECKING:\n    import ladder.demo\nelse:\n    import ladder.errors\n"
        "def later():\n    from ladder.new import b\n"
    )
    (copy / "new" / "b.py").write_text("")
    found = import_closure.import_closure("ladder.new.a")
    new = {"ladder.new", "ladder.new.a", "ladder.new.b"}
    used = {"ladder.support", "ladder.support.moved", "ladder.support.suggest"}  # by ladder itself
    assert set(found) == {"ladder", "ladder.errors", *used, *new}


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no module 'ladder\.nowhere'"):
        import_closure.import_closure("ladder.nowhere")
