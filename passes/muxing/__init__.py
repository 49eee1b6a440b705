"""Outlier channels of activations: how they are found, and the remedies with their errors.

``find`` finds the channels and the number of digits that they need. ``smooth`` and ``fold`` are the
remedy that adds no operator. ``errors`` computes the error of the products under each remedy.
"""
