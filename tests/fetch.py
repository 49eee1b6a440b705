"""Files from packages in the user's cache; the tests themselves use a separate cache."""

from __future__ import annotations

import os
from pathlib import Path

from ladder.support import packages

# Read at import, before conftest changes LADDER_CACHE.
CACHE = Path(os.environ.get("LADDER_CACHE") or Path.home() / ".cache" / "ladder")


def package_file(requirement: str, pattern: str) -> Path:
    """The one file in the wheel of ``requirement`` (``name==version``) that matches ``pattern``."""
    return packages.package_file(requirement, pattern, CACHE)
