"""Runs fuzzers: python -m fuzz.run [READER ...] [--cases N | --minutes N] [--seed N]."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from fuzz.readers import Reader, all_readers
from fuzz.sandbox import Faults, attempt, check_tree, limit_memory, sandbox, tree

KEEP = "LADDER_FUZZ_KEEP"  # a folder for the inputs of faults


def content_of(reader: Reader, seeds: list[bytes], seed: int, case: int) -> bytes:
    """The input of a case: it depends on nothing but these numbers."""
    random = Random(f"{reader.name} {seed} {case}")
    return reader.mutate(random, random.choice(seeds))


def fuzz(reader: Reader, seed: int, cases: int, until: float, root: Path) -> Faults:
    """Run cases 0 to ``cases``, or as many as there is time for; print what came of them."""
    from ladder.errors import LadderError

    faults, said = Faults(), Counter[str]()
    seeds = reader.seeds()
    path = root / "work" / reader.name
    for content in seeds:  # what is valid is read, and everything is imported
        path.write_bytes(content)
        reader.read(path)
    path.unlink()
    before = tree(root)
    limit_memory()
    case, start = 0, time.monotonic()
    while case < cases and time.monotonic() < until:
        path.write_bytes(content_of(reader, seeds, seed, case))
        print(case, file=sys.stderr)  # the last one names the case of a crash
        said[attempt(lambda: reader.read(path), LadderError, faults, case)] += 1
        path.unlink()
        check_tree(root, before, faults, case)
        case += 1
    each = 1e3 * (time.monotonic() - start) / max(case, 1)
    shown = ", ".join(f"{count} {what}" for what, count in sorted(said.items()))
    print(f"{reader.name}: {case} cases, seed {seed}: {shown}; {each:.1f} ms each", flush=True)
    return faults


def report(reader: Reader, seed: int, faults: Faults, keep: str | None) -> None:
    """Print each fault, and write its input where it can be tried again."""
    seeds = reader.seeds()
    for place, (case, text) in faults.found.items():
        print(f"FAULT {reader.name} case {case} seed {seed}: {place}\n{text}")
        if keep:
            Path(keep).mkdir(parents=True, exist_ok=True)
            file = Path(keep) / f"{seed}-{case}-{reader.name}"
            file.write_bytes(content_of(reader, seeds, seed, case))
            print(f"its input: {file}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--cases", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    asked = parser.parse_args()
    keep = os.environ.get(KEEP)
    known, failed = all_readers(), False
    names = asked.readers or list(known)
    for name in names:
        share = asked.minutes * 60 / len(names)
        with sandbox() as root:
            faults = fuzz(known[name], asked.seed, asked.cases, time.monotonic() + share, root)
            report(known[name], asked.seed, faults, keep)
        failed |= bool(faults.found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
