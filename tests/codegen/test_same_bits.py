"""The same inputs give the same bytes on every processor."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from emulation import accelerators
from emulation.products import (
    RUNNERS,
    Outputs,
    Product,
    Runner,
    all_products,
    book_products,
    expected,
    hash_of,
)

from ladder.ir.numerics import F32

pytestmark = pytest.mark.kernels


ALL: dict[str, Runner] = RUNNERS | accelerators.RUNNERS


@pytest.mark.parametrize("name", ALL)
def test_one_hash(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every integer type, both modes, 1, 5 and 32 tokens, odd shapes, and every scheme."""
    products = all_products()
    right = expected(products)
    outputs = equal_to_reference(name, products, right)
    found = {
        hash_of([row[min(row)] for row in outputs]),
        hash_of([row[max(row)] for row in outputs]),
    }
    with capsys.disabled():
        print(f"\n{name}: {len(products)} products, sha256 {', '.join(sorted(found))}")
    assert found == {hash_of(right)}


@pytest.mark.parametrize("name", [name for name in RUNNERS if name.startswith("arm")])
def test_code_books(name: str) -> None:
    """On the emulated levels; test_products has those of this processor."""
    products = book_products()
    equal_to_reference(name, products, expected(products))


def equal_to_reference(name: str, products: tuple[Product, ...], right: Sequence[F32]) -> Outputs:
    outputs = ALL[name](products)
    assert len(outputs) == len(products)
    for product, row, wanted in zip(products, outputs, right, strict=True):
        assert row, f"{name} computed nothing of {product.case}"
        for op, got in row.items():
            differ = (got != wanted).mean()
            assert differ == 0, f"{op} {product.mode} {product.case}: {differ:.3%} differ"
    return outputs
