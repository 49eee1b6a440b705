"""Statistics of each site's input on calibration data, for ``round-weights`` and ``mux-outliers``.

``operands`` finds the value that a site reads. ``collect`` runs the float model block by block.
``hessians`` collects second moments, ``activations`` the magnitudes of channels. ``gptaq`` rounds
a whole plan in the order of the model; ``rounded_weights`` keeps single rounded weights.
"""
