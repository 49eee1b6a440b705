"""Schedule rules: the target's kernels, vectors for plain loops, and no bit changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import relax_modules as modules
import tvm
from tvm import relax
from tvm.s_tir import dlight

from ladder.codegen.kernels.library import described
from ladder.hardware.targets import LEVELS, runs_here
from ladder.plugin import transform
from ladder.plugin.dlight import DECODE, Elementwise, LowBitKernel
from ladder.plugin.levels import level_of

WEIGHT = modules.array(modules.N, modules.K)
BEST = next(n for n in ("x86-64-vnni", "x86-64-v3", "x86-64") if runs_here(LEVELS[n]))


def lowered() -> Any:
    """A product on portable kernels, and loops before schedules."""

    def build(builder: relax.BlockBuilder, x: Any) -> Any:
        turned = builder.emit(relax.op.permute_dims(relax.const(WEIGHT)))
        y = builder.emit(relax.op.matmul(x, turned))
        moved = builder.emit(relax.op.add(y, relax.const(modules.array(modules.N))))
        return builder.emit(relax.op.nn.softmax(builder.emit(relax.op.nn.relu(moved))))

    steps = [
        transform.RoundWeights(type="int4:g32"),
        transform.LowerTypes(level="x86-64", scheme="dot"),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ]
    mod = modules.function(build, ((modules.M, modules.K), "float32"))
    return tvm.transform.Sequential(steps)(mod)


def functions(mod: Any) -> dict[str, Any]:
    return {v.name_hint: f for v, f in mod.functions_items() if not isinstance(f, relax.Function)}


@pytest.mark.kernels
def test_rules_keep_every_bit() -> None:
    target, mod = tvm.target.Target(f"ladder/{BEST}"), lowered()
    with target:
        made = dlight.ApplyDefaultSchedule(*DECODE)(lowered())  # it changes its argument
    assert relax.analysis.well_formed(made) in (None, True)
    x = modules.array(modules.M, modules.K)
    options = {"target": target, "relax_pipeline": "default"}
    before, after = (modules.run(m, x, **options) for m in (mod, made))
    assert np.isfinite(before).all() and (before == after).all()


def test_a_kernel_becomes_that_of_the_target() -> None:
    target, old = tvm.target.Target("ladder/x86-64-vnni"), functions(lowered())
    with target:
        made = functions(dlight.ApplyDefaultSchedule(LowBitKernel())(lowered()))
    (name,) = (n for n, f in old.items() if described(f))
    assert described(made[name]) == described(old[name])
    assert str(made[name].attrs["global_symbol"]) == name
    assert "vpdpbusd" in assembly(made[name], target)
    assert "vpdpbusd" not in assembly(old[name], target)


def assembly(func: Any, target: Any) -> str:
    return str(tvm.compile(func, target=target).mod.inspect_source("asm"))


def test_plain_loops_become_vectors() -> None:
    old = functions(lowered())
    with tvm.target.Target("ladder/x86-64-v3"):
        made = functions(dlight.ApplyDefaultSchedule(Elementwise())(lowered()))
    (name,) = (n for n in made if "relu" in n)
    assert "T.vectorized" in made[name].script()
    assert "T.vectorized" not in old[name].script()


def test_levels_of_targets_without_a_tag() -> None:
    def level(**config: Any) -> Any:
        return level_of(tvm.target.Target({"kind": "llvm", **config}))

    assert level(mcpu="icelake-server").name == "x86-64-vnni"
    assert level(mcpu="haswell").name == "x86-64-v3"
    assert level(mcpu="x86-64").kernels == "portable"
    assert level(mtriple="aarch64-linux-gnu").arch == "arm64"
    assert level_of(tvm.target.Target("c")) is None
