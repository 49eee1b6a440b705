"""Scripts and notebooks of examples/ run from an empty folder, on a small model."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import gguf_files
import pytest
from markdown_pages import ROOT

from ladder import samples

pytestmark = [pytest.mark.kernels, pytest.mark.models, pytest.mark.xdist_group("pages")]
FOLDER = ROOT / "examples"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = gguf_files.write_with_tokenizer(tmp_path / "small.gguf")
    monkeypatch.setenv(samples.VARIABLE, str(small))
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_script(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script.name])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("notebook", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook(notebook: Path) -> None:
    """Its cells in order, in this process: a kernel of Jupyter would load torch and TVM again."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4 and all(not c.get("outputs") for c in document["cells"])
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)


def test_the_list_has_every_example() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in FOLDER.iterdir() if path.name != "README.md"}
    assert len(names) == 5 and all(f"`{name}`" in listed for name in names)
