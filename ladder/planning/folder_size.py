"""What an artifact's folder holds next to its weights: a budget of size counts it as well."""

from __future__ import annotations

from pathlib import Path

from ladder.frontend.types import Source
from ladder.hardware.targets import levels_of
from ladder.ir.site import find_sites
from ladder.options.requests import PlanOptions
from ladder.support.disk_space import bytes_on_disk

# Estimates in bytes, on the large side; what was written replaces them.
KERNELS, KERNELS_OF_A_TYPE = 250_000, 50_000  # of a function's library for a level
FUNCTIONS = 4  # of a language model; others have one
MANIFEST, MANIFEST_OF_A_SITE = 30_000, 1_500


def other_bytes(source: Source, options: PlanOptions) -> int:
    """About how many bytes kernels, tokenizer and manifest take."""
    functions = FUNCTIONS if source.is_language_model else 1
    kernels = functions * (KERNELS + KERNELS_OF_A_TYPE * len(options.types))
    sites = len(find_sites(source.model)[0])
    tokenizer = len((source.tokenizer or "").encode())
    libraries = len(levels_of(options.target)) * kernels
    return libraries + tokenizer + MANIFEST + MANIFEST_OF_A_SITE * sites


def folder_bytes(folder: Path) -> int:
    """The bytes that a folder takes on disk."""
    return bytes_on_disk(file for file in folder.iterdir() if file.is_file())
