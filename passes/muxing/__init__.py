"""Outlier channels of activations: which they are, what each remedy leaves of them, folding.

``find`` has the channels and how many digits they need, ``smooth`` and ``fold`` the remedy that is
no operator, ``errors`` what each costs the products.
"""
