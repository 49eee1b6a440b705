"""Experts that a checkpoint stores one by one, which transformers stacks into one tensor."""

from __future__ import annotations

import re

from ladder.errors import LadderError
from ladder.frontend.packed.stored import Stored

ONE = re.compile(r"(?P<before>.*\bexperts\.)(?P<number>\d+)(?P<after>\..+)")


def check_experts(stored: Stored) -> None:
    """Refuse, by name, a tensor that one expert lacks, or has in another shape than the others.

    Transformers could not stack them, and names neither.
    """
    groups: dict[tuple[str, str], dict[int, str]] = {}
    counts: dict[str, int] = {}
    for name in stored:
        found = ONE.fullmatch(name)
        if found:
            number, before = int(found["number"]), found["before"]
            groups.setdefault((before, found["after"]), {})[number] = name
            counts[before] = max(counts.get(before, 0), number + 1)
    for (before, after), names in groups.items():
        for number in range(counts[before]):
            if number not in names:
                raise LadderError(
                    f"the checkpoint has no tensor {before}{number}{after}, and other experts "
                    "have one; fetch the missing files"
                )
        _check_shapes(list(names.values()), stored)


def _check_shapes(names: list[str], stored: Stored) -> None:
    for name in names:
        if stored[name].shape != stored[names[0]].shape:
            raise LadderError(
                f"{name}: stored with shape {list(stored[name].shape)}, and {names[0]} with "
                f"{list(stored[names[0]].shape)}; the checkpoint is damaged"
            )
