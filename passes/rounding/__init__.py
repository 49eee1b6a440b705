"""Rounding methods: [N, K] float32 -> codes, scales and zero points of a type.

``grid`` finds the nearest value of an element, ``scales`` stores scales in their type, ``search``
chooses scale and zero point of a group, ``matrix`` does so for a whole weight, ``gptq`` for the
least error of its products, ``methods`` has them all by name.
"""

from __future__ import annotations

from ladder.passes.rounding.matrix import METHODS, Rounded, mse, rtn

__all__ = ["METHODS", "Rounded", "mse", "rtn"]
