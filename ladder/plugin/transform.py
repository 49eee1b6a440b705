"""The steps of the pipeline as TVM passes, for a ``tvm.transform.Sequential`` of your own."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level
from ladder.plugin import options
from ladder.plugin.fusing import fuse_module
from ladder.plugin.levels import level_of
from ladder.plugin.lowering import lower_module, lower_operators
from ladder.plugin.mutate import packs_later
from ladder.plugin.rounding import round_module

tvm_ffi.register_error("LadderError", LadderError)  # keeps its type through TVM


@tvm.transform.module_pass(opt_level=0, name="ladder.RoundWeights")
class RoundWeights:
    """Round the weights of products and embeddings to low-bit types.

    %y = matmul(%x, permute_dims(%w))  -->  %y = ladder.low_bit_matmul(%x, codes, scale)

    Options (``ladder.plugin.options``): ``type``, ``keep``, ``rules``, ``plan``, ``rounding``.
    """

    def __init__(self, **given: str) -> None:
        options.check_names(given)
        self.given = given

    def transform_module(self, mod: Any, _context: Any) -> Any:
        return round_module(mod, options.read(mod, self.given))


@tvm.transform.module_pass(opt_level=0, name="ladder.FuseOperators")
class FuseOperators:
    """Decomposed normalizations and attention become one operator each (``ladder.plugin.fusing``).

    %y = x * rsqrt(mean(x^2) + eps) * w                   -->  %y = nn.rms_norm(%x, %w)
    %y = softmax(q c @ (k c)^T + where(mask, 0, -inf)) @ v  -->  %y = ladder.attention(...)
    """

    def transform_module(self, mod: Any, _context: Any) -> Any:
        return fuse_module(mod)


@tvm.transform.module_pass(opt_level=0, name="ladder.LowerOperators")
class LowerOperators:
    """Lowers attention and normalizations to kernels; those without a kernel are left to TVM.

    %y = nn.rms_norm(%x, %w)  -->  %y = call_tir(rms_norm, %x, %w)
    """

    def transform_module(self, mod: Any, _context: Any) -> Any:
        return lower_operators(mod)


@tvm.transform.module_pass(opt_level=0, name="ladder.LowerTypes")
class LowerTypes:
    """Lowers low-bit operators to kernels of ``level`` (default: that of the current target).

    %y = ladder.low_bit_matmul(%x, codes, scale)
      -->  %q = call_tir(quantize_activation, %x); %y = call_tir(dot_gemm, %q..., packed codes)

    Options: ``activation``, ``scheme``.
    """

    def __init__(self, level: str = "", **given: str) -> None:
        options.check_names(given)
        self.level, self.given = level, given

    def transform_module(self, mod: Any, _context: Any) -> Any:
        level = self._level()
        return mod if level is None else lower_module(mod, options.read(mod, self.given), level)

    def _level(self) -> Level | None:
        if self.level:
            return LEVELS[self.level]
        return level_of(tvm.target.Target.current(allow_none=True))


@tvm.transform.module_pass(opt_level=0, name="ladder.LiftWeights")
class LiftWeights:
    """Moves the rounding and packing of parameters into ``NAME_transform_params``.

    It runs TVM's LiftTransformParams if there is such a weight; other modules keep their signature.
    """

    def transform_module(self, mod: Any, _context: Any) -> Any:
        return relax.transform.LiftTransformParams()(mod) if packs_later(mod) else mod
