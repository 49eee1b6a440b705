"""Signed artifacts: only what the key's owner signed is loaded; OpenSSL agrees."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import ladder.runtime
from ladder.errors import LadderError
from ladder.runtime.artifact import MANIFEST, MEASURED, REPORT, WEIGHTS, own_files, sign_artifact
from ladder.runtime.manifest import manifest_text
from ladder.runtime.signature import SIGNATURE

pytestmark = [pytest.mark.models, pytest.mark.kernels]


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def write_keys(folder: Path, key: Any, password: bytes = b"") -> tuple[Path, Path]:
    """A private and a public key in PEM files."""
    hidden = s.BestAvailableEncryption(password) if password else s.NoEncryption()
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, hidden)
    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pub").write_bytes(public)
    return folder / "key.pem", folder / "key.pub"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, Ed25519PrivateKey.generate())


def test_a_signed_artifact_loads(
    cli: Callable[..., Any], copy: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    assert cli("sign", copy, "--key", private).code == 0
    (copy / MEASURED).write_text("{}")  # results of measurements are no part of it
    assert own_files(copy) == {file.name for file in copy.iterdir()} | {REPORT}
    ladder.runtime.load(copy, verify_key=public)
    ran = cli("run", copy, "--prompt", "abc", "--tokens", 2, "--verify-key", public)
    assert ran.code == 0, ran
    command: list[str | Path] = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        public,
        "-rawin",
    ]
    command += ["-in", copy / MANIFEST, "-sigfile", copy / SIGNATURE]
    assert "Verified Successfully" in subprocess.run(command, capture_output=True, text=True).stdout


def test_what_was_changed_after_it_was_signed(copy: Path, keys: tuple[Path, Path]) -> None:
    """The manifest has the hashes of the others, and a checksum that anybody can make."""
    private, public = keys
    sign_artifact(copy, private)
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[::-1])
    with pytest.raises(LadderError, match=r"weights\.bin: damaged"):
        ladder.runtime.load(copy, public)
    (copy / MANIFEST).write_text((copy / MANIFEST).read_text() + "\n")
    with pytest.raises(LadderError, match="the signature does not fit: the manifest was changed"):
        ladder.runtime.load(copy, public)
    with pytest.raises(LadderError, match=r"weights\.bin: damaged"):
        sign_artifact(copy, private)


def test_signatures_of_others(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    with pytest.raises(LadderError, match=r"is not signed \(no manifest\.sig\); see 'ladder sign'"):
        ladder.runtime.load(copy, public)
    sign_artifact(copy, private)
    (tmp_path / "other").mkdir()
    _, other = write_keys(tmp_path / "other", Ed25519PrivateKey.generate())
    with pytest.raises(LadderError, match="the signature does not fit"):
        ladder.runtime.load(copy, other)
    (copy / SIGNATURE).write_bytes(b"")
    with pytest.raises(LadderError, match="the signature does not fit"):
        ladder.runtime.load(copy, public)


def test_keys_that_are_none(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    for folder in ("x", "hidden"):
        (tmp_path / folder).mkdir()
    x_private, x_public = write_keys(tmp_path / "x", X25519PrivateKey.generate())
    hidden, _ = write_keys(tmp_path / "hidden", Ed25519PrivateKey.generate(), b"secret")
    missing = tmp_path / "none.pem"
    sign_artifact(copy, private)
    for key, message in (
        (public, "no private key in PEM form; make one with 'openssl genpkey"),
        (x_private, "not a key for Ed25519; make one"),
        (hidden, "the key is encrypted; decrypt it with 'openssl pkey -in"),
        (missing, r"none\.pem: cannot be read \(No such file or directory\); give a PEM file"),
    ):
        with pytest.raises(LadderError, match=message):
            sign_artifact(copy, key)
    for key, message in (
        (private, "no public key in PEM form; write it with 'openssl pkey"),
        (x_public, "not a key for Ed25519"),
        (missing, "cannot be read"),
    ):
        with pytest.raises(LadderError, match=message):
            ladder.runtime.load(copy, key)


def test_a_signed_artifact_is_ladders(
    cli: Callable[..., Any], copy: Path, keys: tuple[Path, Path], tiny_chat_folder: Path
) -> None:
    """It may be replaced; the signature of the old one goes with it."""
    sign_artifact(copy, keys[0])
    options = ["--type", "int4:g32", "--context", 96, "--chunk", 16]
    ran = cli("compile", tiny_chat_folder, "-o", copy, *options)
    assert ran.code == 0 and not (copy / SIGNATURE).exists()


def test_a_manifest_with_another_order_is_the_same(copy: Path) -> None:
    import json

    row = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(dict(reversed(row.items())), indent=3))
    ladder.runtime.load(copy)
    assert manifest_text(row) == manifest_text(json.loads(manifest_text(row)))
