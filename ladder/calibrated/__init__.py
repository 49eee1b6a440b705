"""Calibrated rounding: what a calibration text says of each site's inputs, for ``round-weights``.

``inputs`` finds what a site reads, ``hessians`` collects second moments under the float model,
``ordered`` rounds a whole plan in the order of the model, ``rounded`` keeps single weights.
"""

from __future__ import annotations

from ladder.calibrated.hessians import collect
from ladder.calibrated.rounded import RoundedWeights
from ladder.calibrated.wished import calibrate, finished_of, hessians_of

__all__ = ["RoundedWeights", "calibrate", "collect", "finished_of", "hessians_of"]
