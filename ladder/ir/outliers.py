"""Facts about outlier channels: statistics of activations, and the methods that were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Activations:
    """Statistics of each site's input on calibration data: site -> NumPy file of [1 + R, K].

    The first row has the largest magnitude of each channel over all tokens; the others are the rows
    of R tokens. ``missing`` has the reasons why sites have none. ``tokens`` and ``text`` describe
    the data.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True)
class OutlierChoice:
    """The method for a site's input (``none``, ``smooth``, ``muxq`` or ``digits``), and the reason.

    ``errors`` is method -> the error of the site's integer products relative to the float products
    (root mean square over calibration tokens). ``refused`` is method -> why it could not be tried.
    ``channels`` is the number of outlier channels that are muxed.
    """

    method: str
    reason: str
    errors: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    channels: int = 0


@dataclass(frozen=True)
class Outliers:
    """The choice for each site, by name; ``calibrated`` has the name and the tokens of the text."""

    choices: Mapping[str, OutlierChoice] = field(default_factory=dict)
    activation: str = ""
    calibrated: Mapping[str, int] = field(default_factory=dict)
