"""Tables that a module computes itself are no weights: no type may round them."""

from __future__ import annotations

import torch

from ladder.frontend.torch_module import load_module
from ladder.ir.site import find_sites

POSITIONS, SIZE = 32, 16


class Sines(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A learned embedding plus sines of positions, which no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = torch.nn.Embedding(POSITIONS, SIZE)
        angles = torch.arange(POSITIONS)[:, None] / torch.arange(1, SIZE + 1)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.learned(ids) + self.sines.index_select(0, ids)


def test_a_table_that_no_checkpoint_holds_is_no_site() -> None:
    source = load_module(Sines(), (torch.arange(5),))
    sites, refusals = find_sites(source.model)
    assert [site.name for site in sites] == ["learned"]
    (refusal,) = refusals
    assert refusal.reason == "the model computes its table, which no checkpoint holds"
