"""The user's own types: three lines of Python, or a few of TOML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ladder
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.options.user_types import load_config


def test_a_type_from_python() -> None:
    name = ladder.register_type("thirds", [-1, -1 / 3, 1 / 3, 1])
    dtype = DType.parse(f"{name}:g64:fp16")
    assert (dtype.bits, str(dtype)) == (2, "thirds:g64:fp16")
    np.testing.assert_allclose(dtype.element.values, [-1, -1 / 3, 1 / 3, 1], rtol=1e-6)


def test_a_type_from_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ladder.toml").write_text("[types.fives]\ncodebook = [-2.0, -1, 0, 1, 2]\n")
    assert load_config(tmp_path / "ladder.toml") == ["fives"]
    assert DType.parse("fives:row").bits == 3
    monkeypatch.chdir(tmp_path)
    assert load_config() == ["fives"]  # found by its name
    monkeypatch.setenv("LADDER_CONFIG", str(tmp_path / "other.toml"))
    (tmp_path / "other.toml").write_text("")
    assert load_config() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[types.x", "is not TOML"),
        ("[kinds.x]", "unknown section 'kinds'; write"),
        ("[types.x]\nbook = [1.0]", "type 'x' takes codebook and nothing else"),
        ("[types.x]\ncodebook = ['a']", "type 'x': codebook must be a list of numbers"),
        ("[types.x]\ncodebook = [1.0]", "type 'x': a code book has 2 to 256 values, not 1"),
        ("[types.x]\ncodebook = [0, 0]", "type 'x': its code book has nothing but zeros"),
        ("[types.x]\ncodebook = [0, inf]", "type 'x': its code book has values that are not"),
        ("[types.nf4]\ncodebook = [0, 1]", "type 'nf4' is built in; choose another name"),
        (
            "[types.'My type']\ncodebook = [0, 1]",
            "type name 'My type': use lower-case letters, digits",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "types.toml"
    path.write_text(text)
    with pytest.raises(LadderError, match=message) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match=r"cannot read .*none\.toml"):
        load_config(tmp_path / "none.toml")
