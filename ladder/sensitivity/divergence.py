"""The distance of an output from the float model's: KL both ways, MSE, SQNR, cosine.

Let z be the logits of the changed model, l those of the float model, and d = z - l. KL and its
reverse are of second order in d, so the terms of first order are removed before anything is
rounded: with p = softmax(l), c = d - sum_v p d and s = sum_v p expm1(c),

    KL(q || p) = sum_v p expm1(c) c / (1 + s) - log1p(s)        KL(p || q) = log1p(s)

in float32. A few rows are processed at a time, so that all values stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from ladder.errors import LadderError
from ladder.ir.numerics import F32

ELEMENTS_AT_A_TIME = 1 << 17
LOGITS, PROBABILITIES, VALUES = "logits", "probabilities", "values"
SMALLEST = np.float32(1e-30)  # keeps the logarithm of a probability finite
LARGEST_SQNR = 300.0  # decibels; means equal bits
SUM_TOLERANCE = 1e-3


@dataclass
class Sums:
    """Sums over tokens, float64; ``power`` and ``error`` are sums over all elements."""

    tokens: float = 0.0
    elements: float = 0.0
    kl: float = 0.0
    reverse_kl: float = 0.0
    error: float = 0.0
    power: float = 0.0
    cosine: float = 0.0
    labels: float = 0.0
    loss_change: float = 0.0

    @staticmethod
    def total(parts: Iterable[Sums]) -> Sums:
        """Add in the given order, so that the last bit does not depend on the workers."""
        out = Sums()
        for part in parts:
            for f in fields(Sums):
                setattr(out, f.name, getattr(out, f.name) + getattr(part, f.name))
        return out

    def scores(self, kind: str) -> dict[str, float]:
        """Name of a measure -> value; KL and loss in nats per token, SQNR in decibels."""
        found = {
            "mse": self.error / self.elements,
            "sqnr": LARGEST_SQNR,
            "cosine": self.cosine / self.tokens,
        }
        if self.error > 0:
            ratio = self.power / self.error
            found["sqnr"] = min(10 * float(np.log10(max(ratio, 1e-30))), LARGEST_SQNR)
        if kind != VALUES:
            found = {
                "kl": self.kl / self.tokens,
                "reverse_kl": self.reverse_kl / self.tokens,
                **found,
            }
        if self.labels:
            found["loss_change"] = self.loss_change / self.labels
        return found


def metric_of(kind: str) -> str:
    """The name of the measure that serves as the loss."""
    return "mse" if kind == VALUES else "kl"


def kind_of(output: np.ndarray) -> str:
    """The kind of an output by its values: probabilities or others. Logits are not recognised."""
    if output.ndim == 0 or output.shape[-1] < 2 or output.min() < 0:
        return VALUES
    return PROBABILITIES if np.abs(output.sum(-1) - 1).max() < SUM_TOLERANCE else VALUES


@dataclass(frozen=True)
class Expected:
    """The float model's output on one window: ``output`` [tokens, V] and its softmax.

    ``labels`` [tokens - 1] are the tokens that follow, for a language model.
    """

    kind: str
    output: F32
    softmax: F32 | None
    labels: np.ndarray | None = None

    @staticmethod
    def of(output: np.ndarray, kind: str, labels: np.ndarray | None = None) -> Expected:
        if not np.isfinite(output).all():
            raise LadderError(
                "the float model's output has NaN or infinity on the calibration data; "
                "check the model, or give other data"
            )
        rows = as_rows(output)
        softmax = None if kind == VALUES else rows if kind == PROBABILITIES else _softmax(rows)
        return Expected(kind, rows, softmax, labels)

    def compare(self, output: np.ndarray) -> Sums:
        """The distance of another output of the same shape; the output is overwritten."""
        z = as_rows(output)
        step = max(1, ELEMENTS_AT_A_TIME // max(1, z.shape[1]))
        parts = [self._rows(z, slice(i, i + step)) for i in range(0, len(z), step)]
        return Sums.total(parts)

    def _rows(self, z: F32, rows: slice) -> Sums:
        d, output = z[rows], self.output[rows]
        logs = np.log(np.maximum(d, SMALLEST)) if self.kind == PROBABILITIES else None
        d -= output
        error, power, cross = _dot(d, d), _dot(output, output), _dot(output, d)
        sums = Sums(
            tokens=len(d),
            elements=d.size,
            error=_sum(error),
            power=_sum(power),
            cosine=_sum(_cosine(error, power, cross)),
        )
        if not np.isfinite(sums.error):
            raise LadderError("the output has NaN or infinity")
        if self.softmax is None:
            return sums
        if logs is not None:
            d = logs - np.log(np.maximum(output, SMALLEST))
        self._divergence(d, rows, sums)
        return sums

    def _divergence(self, d: F32, rows: slice, sums: Sums) -> None:
        assert self.softmax is not None
        p = self.softmax[rows]
        d -= _dot(p, d)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            w = np.expm1(d)
            w *= p
            s = w.sum(-1)
            reverse = np.log1p(s)
            kl = _dot(w, d) / (1 + s) - reverse
        for row in np.flatnonzero(~np.isfinite(kl)):
            kl[row], reverse[row] = _far_apart(p[row], d[row])
        sums.kl, sums.reverse_kl = _sum(kl), _sum(reverse)
        if self.labels is not None:
            labels = self.labels[rows]  # nothing follows the last token, so one fewer than rows
            found = d[np.arange(len(labels)), labels]
            sums.labels = len(labels)
            sums.loss_change = _sum(reverse[: len(labels)] - found)


def as_rows(output: np.ndarray) -> F32:
    """[..., V] -> [tokens, V], with shared memory; a scalar is one token of one value."""
    rows: F32 = output.reshape(-1, output.shape[-1] if output.ndim else 1)
    return rows


def _dot(a: F32, b: F32) -> F32:
    """The dot products of rows."""
    out: F32 = np.einsum("ij,ij->i", a, b)
    return out


def _sum(x: np.ndarray) -> float:
    return float(x.sum(dtype=np.float64))


def _cosine(error: F32, power: F32, cross: F32) -> np.ndarray:
    """cos(l, l + d) from |d|^2, |l|^2 and l.d; 1 if both are zero."""
    e, p, x = (part.astype(np.float64) for part in (error, power, cross))
    length = np.sqrt(p * np.maximum(p + 2 * x + e, 0))
    same = (p == 0) & (e == 0)
    out: np.ndarray = np.where(same, 1.0, (p + x) / np.where(length > 0, length, 1))
    return out


def _softmax(rows: F32) -> F32:
    out: F32 = np.subtract(rows, rows.max(-1, keepdims=True))
    np.exp(out, out=out)
    out /= out.sum(-1, keepdims=True)
    return out


def _far_apart(p: F32, d: F32) -> tuple[float, float]:
    """A row of logits so far off that exp overflows: in float64, less the largest logit."""
    with np.errstate(divide="ignore"):
        logs = np.log(p.astype(np.float64)) + d
    top = logs.max()
    total = top + np.log(np.exp(logs - top).sum())
    q = np.exp(logs - total)
    return float((q * (d - total)).sum()), float(total)
