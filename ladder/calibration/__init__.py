"""What calibration data says of each site's input, for ``round-weights`` and ``mux-outliers``.

``operands`` finds what a site reads, ``collect`` runs the float model block by block; ``hessians``
collects second moments, ``activations`` how large channels get, ``gptaq`` rounds a whole plan in
the order of the model, ``rounded_weights`` keeps single weights.
"""
