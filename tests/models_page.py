"""The table of families in docs/reference/models.md, made from those that the tests try.

python tests/models_page.py     rewrites the table
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import families
from markdown_pages import DOCS

PAGE = DOCS / "reference" / "models.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
SCALED = "texts up to `{}`; a longer context is refused"
NOTES = {
    "JetMoe": "as an ONNX file only: it splits tokens by expert into parts of computed sizes, "
    "which has no kernel",
    "Llama, rope dynamic": SCALED.format("max_position_embeddings"),
    "Phi 3, rope longrope": SCALED.format("original_max_position_embeddings"),
}


def table() -> str:
    """A row for each family: what transformers calls it, and what happens."""
    head = [
        "| family | `model_type` | what happens | compiled by the tests | note |",
        "|---" * 5 + "|",
    ]
    return "\n".join([*head, *_rows()]) + "\n"


def _rows() -> Iterator[str]:
    for name, made in families.RIGHT.items():
        compiled = (families.COMPILED | families.COMPILED_RECURRENT).get(name, "")
        yield _row(name, made(), "runs", compiled, NOTES.get(name, ""))
    for name, (made, reason) in families.REFUSED.items():
        yield _row(name, made(), "refused", "", reason)


def _row(name: str, configuration: object, *cells: str) -> str:
    kind = getattr(configuration, "model_type")  # noqa: B009  # of transformers, without types
    return f"| {name} | `{kind}` | {' | '.join(cells)} |"


def page_with(table: str, text: str) -> str:
    """``text`` with its table replaced."""
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    assert between.search(text), f"{PAGE} has no lines '{BEGIN}' and '{END}'"
    return between.sub(lambda _: f"\n{table}\n", text)


if __name__ == "__main__":
    PAGE.write_text(page_with(table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Wrote {len(families.RIGHT) + len(families.REFUSED)} families to {PAGE}")
