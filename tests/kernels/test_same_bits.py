"""The same inputs give the same bytes on every processor, whatever its instructions."""

from __future__ import annotations

import pytest
from emulation import accelerators
from emulation.products import RUNNERS, all_products, expected, hash_of

pytestmark = pytest.mark.kernels


ALL = RUNNERS | accelerators.RUNNERS


@pytest.mark.parametrize("name", ALL)
def test_one_hash(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every integer type, both modes, 1, 5 and 32 tokens, odd shapes, each way to compute them."""
    products, right = all_products(), expected()
    outputs = ALL[name](products)
    assert len(outputs) == len(products)
    for product, row, reference in zip(products, outputs, right, strict=True):
        assert row, f"{name} computed nothing of {product.case}"
        for op, got in row.items():
            differ = (got != reference).mean()
            assert differ == 0, f"{op} {product.mode} {product.case}: {differ:.3%} differ"
    found = {
        hash_of([row[min(row)] for row in outputs]),
        hash_of([row[max(row)] for row in outputs]),
    }
    with capsys.disabled():
        print(f"\n{name}: {len(products)} products, sha256 {', '.join(sorted(found))}")
    assert found == {hash_of(right)}
