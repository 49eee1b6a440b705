"""Rounding learned from end to end: codes and scales under which the model's output is kept.

``latent`` is a weight on its way to codes; ``graph``, ``operators`` and ``products`` are the model
in torch, ``train`` the steps, ``result`` what is kept of them.
"""
