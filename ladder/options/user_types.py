"""The user's own types from a TOML file: ``[types.mine]`` with ``codebook = [...]``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.ir.element import code_book, register
from ladder.support.documents import parse_toml

DEFAULT = Path("ladder.toml")
VARIABLE = "LADDER_CONFIG"
EXAMPLE = "[types.mine] with codebook = [-1.0, 0.0, 1.0]"


def load_config(path: Path | None = None) -> list[str]:
    """Register the types of a file and return their names.

    Without ``path``: the file that LADDER_CONFIG names, else ./ladder.toml if there is one.
    """
    given = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    file = given or DEFAULT
    if given is None and not file.exists():
        return []
    try:
        document = parse_toml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LadderError(f"cannot read {file}: {error}") from error
    except ValueError as error:
        raise LadderError(f"{file} is not TOML: {error}") from error
    unknown = [key for key in document if key != "types"]
    if unknown:
        raise LadderError(f"{file}: unknown section '{unknown[0]}'; write {EXAMPLE}")
    for name, fields in document.get("types", {}).items():
        _register(file, name, fields)
    return list(document.get("types", {}))


def _register(file: Path, name: str, fields: Any) -> None:
    if not isinstance(fields, dict) or set(fields) != {"codebook"}:
        raise LadderError(f"{file}: type '{name}' takes codebook and nothing else: {EXAMPLE}")
    values = fields["codebook"]
    numbers = isinstance(values, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in values
    )
    if not numbers:
        raise LadderError(f"{file}: type '{name}': codebook must be a list of numbers: {EXAMPLE}")
    try:
        register(code_book(name, values))
    except LadderError as error:
        raise LadderError(f"{file}: {error}") from error
