"""What a calibration text says of each site's inputs, for ``round-weights`` and ``mux-outliers``.

``inputs`` finds what a site reads, ``walk`` runs the float model block by block; ``hessians``
collects second moments, ``activations`` how large channels get,
``ordered`` rounds a whole plan in the order of the model, ``rounded`` keeps single weights.
"""

from __future__ import annotations

from ladder.calibration.calibrate import calibrate, finished_of, hessians_of
from ladder.calibration.hessians import collect
from ladder.calibration.outliers import mux_outliers, provisionally_muxed
from ladder.calibration.rounded_weights import RoundedWeights

__all__ = [
    "RoundedWeights",
    "calibrate",
    "collect",
    "finished_of",
    "hessians_of",
    "mux_outliers",
    "provisionally_muxed",
]
