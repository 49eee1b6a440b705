"""Signatures of artifacts: Ed25519 over the manifest, which has the hash of every other file.

Keys are PEM files, as of ``openssl genpkey -algorithm ed25519``. A signature is the 64 bytes of
RFC 8032 in ``manifest.sig``, so that other programs can check it too. Needs ``cryptography``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.errors import LadderError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "manifest.sig"
SIZE = 64  # bytes
MAKE = "make one with 'openssl genpkey -algorithm ed25519 -out key.pem'"
PUBLIC = "write it with 'openssl pkey -in key.pem -pubout -out key.pub'"


def sign(content: bytes, key: Path) -> bytes:
    """The signature of ``content`` by the private key in the file ``key``."""
    return bytes(_private_key(key).sign(content))


def check_signature(folder: Path, content: bytes, key: Path) -> None:
    """Refuse an artifact whose manifest's ``content`` was not signed with the key to ``key``."""
    public = _public_key(key)
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    try:
        with path.open("rb") as file:
            signature = file.read(SIZE + 1)
    except FileNotFoundError as error:
        raise LadderError(f"{folder}: is not signed (no {SIGNATURE}); see 'ladder sign'") from error
    try:
        public.verify(signature, content)
    except InvalidSignature as error:
        raise LadderError(
            f"{folder}: the signature does not fit: the manifest was changed, or it was signed "
            f"with another key than that to {key}"
        ) from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = _content(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise LadderError(
            f"{path}: the key is encrypted; decrypt it with 'openssl pkey -in {path}'"
        ) from error
    except Exception as error:  # of several types
        raise LadderError(f"{path}: no private key in PEM form; {MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LadderError(f"{path}: not a key for Ed25519; {MAKE}")
    return key


def _public_key(path: Path) -> Any:
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = _content(path)
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:  # of several types
        raise LadderError(f"{path}: no public key in PEM form; {PUBLIC}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise LadderError(f"{path}: not a key for Ed25519; {MAKE}")
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LadderError(f"{path}: cannot be read ({error.strerror}); give a PEM file") from error


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise LadderError(
            "signatures need the package cryptography: pip install 'ladder[sign]'"
        ) from error
    return serialization
