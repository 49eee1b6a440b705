"""The trained form of a weight: latents that round to codes, and factors of its scales."""

from __future__ import annotations

import math

import numpy as np
import torch

from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import SCALES, DType
from ladder.ir.numerics import F32, stored_scale
from ladder.passes.rounding.matrix import Rounded

TOWARDS_FLOAT = 0.5  # a latent starts at this share of the way from its code to the float weight
WITHIN_CELL = 0.9  # but at most at this share of the way to the border of the next code
LEAST_FACTOR = 0.1  # of a scale, so that it keeps its sign


class Latent:
    """A weight [N, K] of a low-bit type that torch can train.

    ``u`` [N, groups, group size] are the latents, in units of the scale; each rounds to the value
    of a code. ``factor`` [N or 1, groups or 1, 1] multiplies the original scales. The weight is
    (nearest(u) - zero) * scale * factor. Zero points do not change. The gradient passes straight
    through rounding where ``u`` is in the range of the type (Bengio et al., arXiv 1308.3432), and
    is exact for the factors. In these units one learning rate serves every weight.
    """

    def __init__(self, weight: F32, dtype: DType, start: Rounded) -> None:
        self._dtype, self._start, self._float = dtype, start, weight
        self._shape, self._size = weight.shape, dtype.group_size(weight.shape[1])
        values = dtype.element.values
        self._values = torch.from_numpy(np.unique(values[~np.isnan(values)]))
        self._between = (self._values[1:] + self._values[:-1]) / 2
        self.spacing = float((self._values[-1] - self._values[0]) / (len(self._values) - 1))
        self._even = bool(np.allclose(np.diff(self._values.numpy()), 1.0))
        tensor_scale = np.float32(1) if start.tensor_scale is None else start.tensor_scale
        self._scale = torch.from_numpy(stored_scale(start.scale, tensor_scale)).unsqueeze(-1)
        zero = np.zeros(1, np.float32) if start.zero is None else start.zero.astype(np.float32)
        self._zero = torch.from_numpy(zero).unsqueeze(-1)
        self.u = self._begin(np.nan_to_num(values)[dtype.element.to_unsigned(start.codes)])
        self.factor = torch.ones_like(self._scale)
        self.learns_scales = dtype.scale_type.fine  # a small step does not change a coarse scale

    def parameters(self) -> list[torch.Tensor]:
        """The tensors that an optimizer changes, the factors last."""
        return [self.u, self.factor] if self.learns_scales else [self.u]

    def weight(self) -> torch.Tensor:
        """The rounded weight [N, K], float32, detached from the graph."""
        return self._flat((self._nearest() - self._zero) * (self._scale * self.factor))

    def backward(self, gradient: torch.Tensor) -> None:
        """Set the parameters' gradients from the gradient of the loss by the weight [N, K]."""
        g = self._grouped(gradient.float())
        value = self._nearest()
        reach = self.spacing / 2
        inside = (self.u >= self._values[0] - reach) & (self.u <= self._values[-1] + reach)
        self.u.grad = g * inside * (self._scale * self.factor)
        if self.learns_scales:
            each = (g * (value - self._zero)).sum(-1, keepdim=True) * self._scale
            self.factor.grad = each.sum_to_size(self.factor.shape)

    def after_step(self) -> None:
        """Keep the sign of the scales."""
        self.factor.clamp_(min=LEAST_FACTOR)

    def rounded(self) -> Rounded:
        """The codes and scales to store."""
        element, start = self._dtype.element, self._start
        place = {float(v): i for i, v in reversed(list(enumerate(element.values)))}
        index = np.array([place[float(v)] for v in self._values], np.uint8)
        at = torch.bucketize(self._flat(self._nearest()).contiguous(), self._between)
        codes = element.from_unsigned(index[at.numpy()])
        scale = (start.scale.astype(np.float32) * self.factor.squeeze(-1).numpy()).astype(
            SCALES[self._dtype.scale]
        )
        w = dequantized(self._dtype, codes, scale, start.zero, start.tensor_scale)
        power = float(np.square(self._float).sum(dtype=np.float64))
        error = float(np.square(w - self._float).sum(dtype=np.float64))
        relative = math.sqrt(error / power) if power > 0 else 0.0
        return Rounded(codes, scale, start.zero, relative, start.tensor_scale)

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that a later run needs to resume."""
        return {"u": self.u, "factor": self.factor}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Load a ``state`` in place, so that the optimizer keeps its tensors."""
        self.u.copy_(state["u"])
        self.factor.copy_(state["factor"])

    def _begin(self, values: F32) -> torch.Tensor:
        """The first latents: they round to ``values`` [N, K] and lean towards the float weight."""
        code = self._grouped(torch.from_numpy(values))
        exact = self._grouped(torch.tensor(self._float)) / self._scale.clamp(min=1e-30)
        at = torch.bucketize(code, self._between)
        edges = torch.cat([self._values[:1] - self.spacing / 2, self._between,
                           self._values[-1:] + self.spacing / 2])  # fmt: skip
        low, high = (code + WITHIN_CELL * (edges[at + side] - code) for side in (0, 1))
        return code + TOWARDS_FLOAT * ((exact + self._zero).clamp(low, high) - code)

    def _nearest(self) -> torch.Tensor:
        """The value of the code nearest to each latent."""
        if self._even:
            low, high = float(self._values[0]), float(self._values[-1])
            return torch.round(self.u).clamp_(low, high)
        return self._values[torch.bucketize(self.u, self._between)]

    def _grouped(self, w: torch.Tensor) -> torch.Tensor:
        """[N, K] as [N, groups, group size]; a short last group is padded with zeros."""
        n, k = self._shape
        short = -k % self._size
        w = torch.nn.functional.pad(w, (0, short)) if short else w
        return w.reshape(n, -1, self._size)

    def _flat(self, w: torch.Tensor) -> torch.Tensor:
        n, k = self._shape
        return w.reshape(n, -1)[:, :k]
