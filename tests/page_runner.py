"""Runs the blocks of a Markdown page in order, as a reader would who starts in an empty folder.

Sybil finds the blocks and runs Python. Shell commands run here: ``ladder`` and ``python`` in this
process, because loading TVM and torch takes longer than most commands, all others in bash.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from ladder.cli import main

SHELL, PYTHON = "bash", "python"
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?\s*$")
OPERATORS = re.compile(r"[|<>;&]+")
TYPED = "Hello\n/quit\n"  # what a command reads that asks for text


@dataclass(frozen=True)
class Command:
    """One command of a shell block: its words, and the text of a here-document."""

    text: str
    document: str | None = None

    @property
    def words(self) -> list[str]:
        """As bash splits them, without comments; patterns of file names are replaced by names."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|<>;&")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        return [name for word in lexer for name in sorted(glob(word)) or [word]]

    @property
    def plain(self) -> bool:
        """Whether it is one program with its words, without pipes and the like."""
        before = HERE_DOCUMENT.sub("", self.text) if self.document is not None else self.text
        lexer = shlex.shlex(before, posix=True, punctuation_chars="|<>;&")
        lexer.whitespace_split = True
        return not any(OPERATORS.fullmatch(word) for word in lexer)


def commands(block: str) -> Iterator[Command]:
    """The commands of a shell block, with lines joined that a backslash continues."""
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = HERE_DOCUMENT.search(line)
        if not found:
            yield Command(line)
            continue
        body = []
        for inner in lines:
            if inner == found[1]:
                break
            body.append(inner)
        yield Command(line, "\n".join(body) + "\n")


def run_shell(example: Example) -> None:
    for command in commands(example.parsed):
        code, said = _run(command)
        if code:
            pytest.fail(f"{command.text}\nexit code {code}\n{said}", pytrace=False)


def _run(command: Command) -> tuple[int, str]:
    program = command.text.split()[0]
    if command.plain and program == "ladder":
        return _in_process(main, command.words)
    if command.plain and program == "python":
        here = command.document
        words = command.words if here is None else ["python", "-c", here]
        return _in_process(
            lambda: _python(words[1:]), words[2 if words[1].startswith("-") else 1 :]
        )
    text = command.text
    if command.document is not None:
        end = HERE_DOCUMENT.search(text)
        text = f"{text}\n{command.document}{end[1] if end else ''}\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _python(words: list[str]) -> None:
    if words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    elif words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


def _in_process(call: Any, words: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "stdin", io.StringIO(TYPED))
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                call()
            except SystemExit as exit:
                code = exit.code
                return (code if isinstance(code, int) else 1) if code else 0, said.getvalue()
    return 0, said.getvalue()


def parse(page: Path) -> Document:
    shell = CodeBlockParser(language=SHELL, evaluator=run_shell)
    return Sybil(parsers=[shell, PythonCodeBlockParser(future_imports=["annotations"])]).parse(page)


def reason_not_run(example: Example) -> str | None:
    """What the comment before a block says about why it is not run."""
    found = NOT_RUN.search(example.document.text[: example.region.start])
    return found[1] if found else None


def examples(page: Path) -> list[Example]:
    """The blocks of a page that are run."""
    return [example for example in parse(page) if reason_not_run(example) is None]


def run_page(page: Path) -> None:
    """Run the blocks of ``page`` in the current folder."""
    for example in examples(page):
        example.evaluate()
