"""Rounding learned from end to end: codes and scales under which the model says what it said.

``latent`` is a weight on its way to codes; ``graph``, ``operators`` and ``products`` are the model
in torch, ``train`` the steps, ``result`` what is kept of them.
"""

from ladder.calibration.learned.result import check_learnable, learned_of

__all__ = ["check_learnable", "learned_of"]
