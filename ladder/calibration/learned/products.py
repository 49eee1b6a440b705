"""The slow operators, products, in the precision that is fast on this machine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ladder.calibration.learned.operators import Attributes, Operator


def matmul(kind: torch.dtype, a: Attributes, x: Tensor, w: Tensor) -> Tensor:
    return x.to(kind) @ w.to(kind)


def gemm(
    kind: torch.dtype, a: Attributes, x: Tensor, w: Tensor, bias: Tensor | None = None
) -> Tensor:
    x, w = x.T if a.get("transA", 0) else x, w.T if a.get("transB", 0) else w
    product = a.get("alpha", 1.0) * (x.to(kind) @ w.to(kind))
    return product if bias is None else product + a.get("beta", 1.0) * bias


def attention(
    kind: torch.dtype,
    a: Attributes,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *absent: None,
) -> Tensor:
    """Attention without an internal cache: [B, heads, T, D], or [B, T, heads * D]."""
    flat = q.ndim == 3
    if flat:
        heads, others = a["q_num_heads"], a["kv_num_heads"]
        q, k, v = (
            x.unflatten(-1, (n, -1)).transpose(1, 2)
            for x, n in ((q, heads), (k, others), (v, others))
        )
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(kind)
    out = F.scaled_dot_product_attention(
        q.to(kind),
        k.to(kind),
        v.to(kind),
        mask,
        is_causal=bool(a.get("is_causal", 0)),
        scale=a.get("scale"),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out.transpose(1, 2).flatten(2) if flat else out


def conv(
    kind: torch.dtype, a: Attributes, x: Tensor, w: Tensor, bias: Tensor | None = None
) -> Tensor:
    rank = w.ndim - 2
    pads = a.get("pads", (0,) * 2 * rank)
    around = [p for i in reversed(range(rank)) for p in (pads[i], pads[i + rank])]
    work = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return work(
        F.pad(x, around).to(kind),
        w.to(kind),
        None if bias is None else bias.to(kind),
        stride=tuple(a.get("strides", (1,) * rank)),
        dilation=tuple(a.get("dilations", (1,) * rank)),
        groups=a.get("group", 1),
    )


PRODUCTS: dict[str, Operator] = {
    "Attention": attention,
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
}
