"""Facts about outlier channels: what calibration saw of activations, and what was done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Activations:
    """What each site's input is like on calibration data: site -> file (NumPy) of [1 + R, K].

    Its first row is the largest magnitude of each channel over all tokens, the others are R of
    the tokens as they are. ``missing`` says why a site has none; ``tokens`` and ``text`` say what
    they were collected on.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True)
class OutlierChoice:
    """What one site's input got: ``none``, ``smooth``, ``muxq`` or ``digits``, and why.

    ``errors`` is method -> the error of the site's products in integers, relative to those in
    float, over calibration tokens (root of the mean over tokens); ``refused`` is method -> why it
    could not be tried. ``channels`` is how many outliers are muxed.
    """

    method: str
    reason: str
    errors: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    channels: int = 0


@dataclass(frozen=True)
class Outliers:
    """The choice of each site, by site name; ``calibrated`` is the text's name and its tokens."""

    choices: Mapping[str, OutlierChoice] = field(default_factory=dict)
    activation: str = ""
    calibrated: Mapping[str, int] = field(default_factory=dict)
