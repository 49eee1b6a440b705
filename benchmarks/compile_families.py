"""Every family of ``tests/families.py`` in an artifact, compared with torch.

    python benchmarks/compile_families.py -o families.jsonl

A family has random weights that int8:row holds exactly; it is compiled with float activations and
float32 keys and values, and fed 45 tokens in pieces, then at once. A row holds the larger relative
error of the logits, or the refusal. Rows are saved one by one, and a second run resumes there;
``--only NAME ...`` measures only those families, again. ``--print`` prints the table of a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import families
from compiled_families import compile_family

from ladder.errors import LadderError

BOUND = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("families.jsonl"))
    parser.add_argument("--only", nargs="*", metavar="NAME", help="measure these families")
    parser.add_argument("--print", action="store_true", help="print the table of the file")
    options = parser.parse_args()
    if not options.print:
        measure_all(options.output, options.only)
    print(table(read(options.output)))


def measure_all(output: Path, only: list[str] | None) -> None:
    done = read(output)
    for name in families.RIGHT if only is None else only:
        if name in done and only is None:
            continue
        row = measure(name)
        with output.open("a") as file:
            print(json.dumps(row), file=file, flush=True)
        print(f"{name}: {result(row)} ({row['seconds']:.0f} s)", file=sys.stderr, flush=True)


def measure(name: str) -> dict[str, Any]:
    """One row: the error, or what stood in the way, and the seconds of CPU time."""
    start = time.process_time()
    row: dict[str, Any] = {"name": name}
    with tempfile.TemporaryDirectory() as folder:
        try:
            row["error"] = max(compile_family(name, Path(folder) / "a").errors())
        except LadderError as refusal:
            row["refused"] = str(refusal)
        except Exception:  # is a defect, and the others are still of interest
            row["traceback"] = traceback.format_exc()
    return {**row, "seconds": time.process_time() - start}


def read(output: Path) -> dict[str, dict[str, Any]]:
    """The last row of each family."""
    lines = output.read_text().splitlines() if output.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [f"| {name} | {result(row)} |" for name, row in rows.items()]
    return "\n".join(["| family | relative error of the logits |", "|---|---|", *lines])


def result(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['error']:.1e}" + ("" if row["error"] < BOUND else " **differs**")
    return f"refused: {row['refused']}" if "refused" in row else "**" + last_line(row) + "**"


def last_line(row: dict[str, Any]) -> str:
    return str(row["traceback"]).strip().splitlines()[-1]


if __name__ == "__main__":
    main()
