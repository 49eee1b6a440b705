"""Runs fuzzers: python -m fuzz.run [READER ...] [--cases N | --minutes N] [--seed N]."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from fuzz.model_readers import ARTIFACT
from fuzz.readers import Reader, all_readers
from fuzz.sandbox import Faults, attempt, check_tree, limit_memory, sandbox, tree

KEEP = "LADDER_FUZZ_KEEP"  # a folder for the inputs of faults


def content_of(reader: Reader, seeds: list[bytes], seed: int, case: int) -> bytes:
    """The input of a case: it depends on nothing but these numbers."""
    random = Random(f"{reader.name} {seed} {case}")
    return reader.mutate(random, random.choice(seeds))


def fuzz(reader: Reader, seed: int, cases: int, minutes: float, root: Path) -> Faults:
    """Run cases 0 to ``cases``, or as many as there is time for; print what came of them.

    The first reading, which imports everything, takes none of the time.
    """
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
    while case < cases and time.monotonic() < start + 60 * minutes:
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


def run_one(name: str, seed: int, cases: int, minutes: float) -> int:
    """Fuzz in this process; the exit code says whether there were faults."""
    reader = all_readers()[name]
    with sandbox() as root:
        faults = fuzz(reader, seed, cases, minutes, root)
        report(reader, seed, faults, os.environ.get(KEEP))
    return int(bool(faults.found))


def run_each(names: list[str], seed: int, cases: int, minutes: float) -> int:
    """A process for each reader, so that a crash does not end the others."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="ladder-fuzz-") as folder:
        environment = {**os.environ, ARTIFACT: os.environ.get(ARTIFACT) or compiled(Path(folder))}
        for name in names:
            asked = ["--cases", str(cases), "--seed", str(seed), "--minutes", str(minutes)]
            command = [sys.executable, "-m", "fuzz.run", name, *asked]
            done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                failed = 1
                print(f"{name}: exit code {done.returncode} after case {done.stderr[-200:]}")
    return failed


def compiled(folder: Path) -> str:
    """An artifact of a tiny language model."""
    from tiny import CHUNK, CONTEXT, write_model

    import ladder

    model = write_model(folder / "model")
    ladder.compile(model, folder / "artifact", type="int4:g32", context=CONTEXT, chunk=CHUNK)
    return str(folder / "artifact")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--cases", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6)
    asked = parser.parse_args()
    names = asked.readers or list(all_readers())
    if len(names) == 1:
        return run_one(names[0], asked.seed, asked.cases, asked.minutes)
    return run_each(names, asked.seed, asked.cases, asked.minutes / len(names))


if __name__ == "__main__":
    sys.exit(main())
