"""Learned rounding: codes and scales trained end to end to preserve the model's output.

``latent`` has the trained form of a weight. ``graph``, ``operators`` and ``products`` run the model
in torch, ``train`` has the training steps, and ``result`` stores the outcome.
"""
