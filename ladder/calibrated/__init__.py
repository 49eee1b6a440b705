"""What a calibration text says of each site's inputs, for ``round-weights`` and ``mux-outliers``.

``inputs`` finds what a site reads, ``walk`` runs the float model block by block; ``hessians``
collects second moments, ``activations`` how large channels get,
``ordered`` rounds a whole plan in the order of the model, ``rounded`` keeps single weights.
"""

from __future__ import annotations

from ladder.calibrated.hessians import collect
from ladder.calibrated.outliers import mux_outliers, provisionally_muxed
from ladder.calibrated.rounded import RoundedWeights
from ladder.calibrated.wished import calibrate, finished_of, hessians_of

__all__ = [
    "RoundedWeights",
    "calibrate",
    "collect",
    "finished_of",
    "hessians_of",
    "mux_outliers",
    "provisionally_muxed",
]
