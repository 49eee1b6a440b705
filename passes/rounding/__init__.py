"""Rounding methods: [N, K] float32 -> codes, scales and zero points of a type.

``grid`` finds the nearest value of an element, ``scales`` stores scales in their type, ``search``
chooses the scale and zero point of a group. ``matrix`` rounds a whole weight, ``gptq`` does so for
the least error of its products. ``methods`` is the registry, ``one_weight`` rounds by a row of it.
"""
