"""The message of the emulation if a package cannot be installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from emulation import apt


def test_without_apt_the_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apt, "HOME", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(apt.Missing, match=r"need the packages qemu-user-static .*no apt-get"):
        apt.tool("qemu-aarch64", package="qemu-user-static")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
