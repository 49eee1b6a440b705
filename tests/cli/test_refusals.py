"""Bad input: one line on stderr that says what, where and what to do, and no partial files."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import pytest
from small_graphs import graph, random

from ladder.options.requests import CompileOptions
from ladder.runtime.manifest import manifest_text
from ladder.support import cache

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("cli")]

Cli = Callable[..., Any]
MATMUL = 'g (float[M, 64] x) => (float[M, 40] y) { y = MatMul(x, "fc1.weight") }'


def everything(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def refuses(cli: Cli, tmp_path: Path) -> Callable[..., None]:
    """The command fails with one line that matches, and ``tmp_path`` does not change."""

    def check(message: str, *words: object, code: int = 2) -> None:
        before = everything(tmp_path)
        ran = cli(*words)
        assert ran.code == code, ran
        assert ran.out == ""
        assert re.fullmatch(r"ladder: [^\n]+\n", ran.err), ran.err
        assert re.search(message, ran.err), ran.err
        assert everything(tmp_path) == before

    return check


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(graph(MATMUL, {"fc1.weight": random(64, 40)}), path)
    return path


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def commands(model: Path, tmp_path: Path) -> list[list[object]]:
    """The commands that read a model and write files."""
    return [
        ["compile", model, "-o", tmp_path / "out"],
        ["quantize", model, tmp_path / "out.onnx"],
        ["opt", model, "-p", "clean-up", "-o", tmp_path / "out.onnx"],
    ]


def test_missing_file(refuses: Cli, tmp_path: Path) -> None:
    for words in commands(tmp_path / "none.onnx", tmp_path):
        refuses(r"none\.onnx: no such file.*; give an ONNX", *words)
    refuses(
        "none: no such file or folder; give", "compile", tmp_path / "none", "-o", tmp_path / "o"
    )
    refuses("none: no such artifact folder; make one with", "run", tmp_path / "none", "--prompt=a")
    refuses("not a Ladder artifact .no manifest.json.", "run", tmp_path, "--prompt=a")
    refuses("none.txt: no such text file", "eval", tmp_path, "--text", tmp_path / "none.txt")


def test_unknown_kind_of_file(refuses: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    message = "model.bin: unknown kind of file; give .onnx, .gguf or a Hugging Face folder"
    refuses(message, "compile", tmp_path / "model.bin", "-o", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    message = "empty: holds no config.json and no .gguf or .onnx; give the file"
    refuses(message, "compile", tmp_path / "empty", "-o", tmp_path / "out")


def test_truncated_onnx(refuses: Cli, model: Path, tmp_path: Path) -> None:
    model.write_bytes(model.read_bytes()[:-1000])
    for words in commands(model, tmp_path):
        refuses(r"model.onnx: not a readable ONNX file .*: fetch it again", *words)


def test_truncated_gguf(refuses: Cli, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", random(64, 64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    for size in (len(content) - 100, 100, 20):
        path.write_bytes(content[:size])
        refuses(
            "model.gguf: .*truncated.*; fetch it again", "compile", path, "-o", tmp_path / "out"
        )
    path.write_bytes(b"<html>")
    refuses("model.gguf: not a GGUF file .it begins", "compile", path, "-o", tmp_path / "out")


def test_external_data_missing(refuses: Cli, model: Path, tmp_path: Path) -> None:
    onnx.save(
        onnx.load(model), model, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    model.with_name("w.bin").unlink()
    for words in commands(model, tmp_path):
        refuses("weight 'fc1.weight' is in w.bin, which is missing; put the external", *words)


@pytest.mark.parametrize(
    ("type", "message"),
    [
        ("int9:g32", "unknown type 'int9:g32': the element must be one of int1, int2"),
        ("int4:g0", "type 'int4:g0': the group must be positive; write for example g128"),
        ("int4:g-8", "type 'int4:g-8': the group must be positive"),
        ("fp32", "type 'fp32' is a float: there is nothing to quantize to"),
    ],
)
def test_types(refuses: Cli, model: Path, tmp_path: Path, type: str, message: str) -> None:
    for words in commands(model, tmp_path)[:2]:
        refuses(message, *words, "--type", type)
    words = ["opt", model, "-p", f"allocate-uniform{{type={type}}}", "-o", tmp_path / "out.onnx"]
    refuses(message, *words)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(
    refuses: Cli, model: Path, tmp_path: Path, value: float
) -> None:
    weight = random(64, 40)
    weight[3, 5] = value
    onnx.save(graph(MATMUL, {"fc1.weight": weight}), model)
    message = "site fc1: its weight has NaN or infinity; check the model file, or keep the site"
    for words in commands(model, tmp_path)[:2]:
        refuses(message, *words)


def test_options(refuses: Cli, model: Path, tmp_path: Path) -> None:
    compile, quantize, _ = commands(model, tmp_path)
    refuses("unknown target 'z80'; one of native, x86-64, ", *compile, "--target", "z80")
    refuses("unknown rounding 'ceil'; one of: rtn, mse", *compile, "--rounding", "ceil")
    refuses("unknown rounding 'ceil'; one of: rtn, mse", *quantize, "--rounding", "ceil")
    refuses("unknown activation mode 'int3'; one of: int8, ", *compile, "--activation", "int3")
    refuses("no input has a dimension 'N'; the inputs have: M", *compile, "--dim", "N=3")
    refuses("input x has the open dimensions .*; bind them with --dim NAME=SIZE", *compile)
    refuses("--keep 'lm_head' matches no site", *compile, "--dim", "M=1", "--keep", "lm_head")
    refuses("unknown format 'tflite'; one of: ", *quantize, "--format", "tflite")
    refuses("--context 0: give a positive number", *compile, "--context", "0")


def test_output_that_is_in_the_way(refuses: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    words = ["compile", model, "--dim", "M=1", "-o"]
    refuses("mine: exists and is not a Ladder artifact; give another -o", *words, tmp_path / "mine")
    (tmp_path / "app").mkdir()
    for text in ('{"name": "a web app", "start_url": "/"}', '{"format": 2, "files": {}}', "["):
        (tmp_path / "app" / "manifest.json").write_text(text)
        refuses("app: exists and is not a Ladder artifact; give", *words, tmp_path / "app")
    refuses("thesis.txt: exists and is a file", *words, tmp_path / "mine" / "thesis.txt")
    refuses(
        "thesis.txt/sub: cannot be written .Not a directory.; give",
        *words,
        tmp_path / "mine/thesis.txt/sub",
    )


def test_a_file_of_the_user_in_an_artifact(
    refuses: Cli, cli: Cli, model: Path, tmp_path: Path
) -> None:
    """A report's page is Ladder's, other files are not."""
    out = tmp_path / "out"
    words = ["compile", model, "--dim", "M=1", "-o", out]
    assert cli(*words).code == 0 and cli("report", out).code == 0
    assert (out / "report.html").exists() and cli(*words).code == 0
    assert not (out / "report.html").exists()
    (out / "thesis.txt").write_text("all my work")
    message = "out: holds 'thesis.txt', which Ladder did not write; move it away, or give another"
    refuses(message, *words)
    refuses(message, *words, "--bpw", "4", "--types", "int2:g32,int8:row")


def test_numbers_and_paths_that_are_none(refuses: Cli, model: Path, tmp_path: Path) -> None:
    run = ["run", tmp_path, "--prompt", "a"]
    refuses("--seed -1: give 0 or more", *run, "--seed", "-1")
    for option, value in (("--temperature", "nan"), ("--temperature", "inf"), ("--top-p", "nan")):
        refuses(f"{option} {value}: give ", *run, option, value)
    long = tmp_path / ("n" * 256)
    compile = ["compile", model, "--dim", "M=1", "-o"]
    refuses("n: cannot be written .File name too long.; give another -o", *compile, long)
    refuses("n: File name too long", "compile", long, "-o", tmp_path / "out")
    refuses("n: File name too long", "run", long, "--prompt", "a")
    refuses("in: is a folder; give a file", "opt", model, "-p", "clean-up", "-o", tmp_path / "in")
    refuses("in: is a folder; give a file", "quantize", model, tmp_path / "in")


def edit_manifest(artifact: Path, **changes: object) -> None:
    path = artifact / "manifest.json"
    path.write_text(manifest_text({**json.loads(path.read_text()), **changes}))


def readers(artifact: Path) -> list[list[object]]:
    return [["run", artifact, "--prompt", "abc"], ["bench", artifact]]


def test_artifact_of_another_version(refuses: Cli, artifact: Path) -> None:
    edit_manifest(artifact, format=99)
    message = r"artifact format 99, this Ladder reads formats 1 to \d+; compile the model again"
    for words in (*readers(artifact), ["report", artifact]):
        refuses(message, *words)


def test_artifact_for_another_cpu(refuses: Cli, artifact: Path) -> None:
    edit_manifest(artifact, levels=["x86-64-v99"])
    message = (
        "artifact: compiled for x86-64-v99, which this CPU does not support; compile with --target"
    )
    for words in readers(artifact):
        refuses(message, *words)


def test_damaged_artifact(refuses: Cli, artifact: Path) -> None:
    (library,) = artifact.glob("*.so")
    for name in ("weights.bin", "tokenizer.json", library.name):
        content = bytearray((artifact / name).read_bytes())
        content[len(content) // 2] ^= 1
        (artifact / name).write_bytes(content)
        for words in readers(artifact):
            refuses(f"{name}: damaged .its hash differs from the manifest's.; copy or", *words)
        content[len(content) // 2] ^= 1
        (artifact / name).write_bytes(content)
    (artifact / "weights.bin").unlink()
    refuses("weights.bin: missing from the artifact; compile", *readers(artifact)[0])
    (artifact / "manifest.json").write_text('{"format": 1')
    refuses("manifest.json: damaged manifest; compile the model again", *readers(artifact)[0])


def test_prompts(refuses: Cli, artifact: Path) -> None:
    words = ["run", artifact, "--prompt"]
    refuses("97 tokens do not fit the context of 96; shorten the prompt or", *words, "a" * 97)
    refuses("the prompt has no tokens; give some text", *words, "")
    refuses("give either --prompt TEXT or --input FILE.npz", "run", artifact)
    refuses("--tokens 90: the artifact's context is 96", "bench", artifact, "--tokens", "90")


def test_inputs(refuses: Cli, cli: Cli, model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    assert cli("compile", model, "--dim", "M=2", "--type", "int4:g32", "-o", artifact).code == 0
    words = ["run", artifact, "-o", tmp_path / "out.npz", "--input", tmp_path / "in.npz"]
    refuses("in.npz: no such file; save the inputs by name with numpy.savez", *words)
    (tmp_path / "in.npz").write_text("x = 1")
    refuses("in.npz: not an NPZ file; save the inputs by name with numpy.savez", *words)
    words_of_folder = ["run", artifact, "--input", tmp_path / "in"]
    refuses("in: is a folder, not an NPZ file; save the inputs", *words_of_folder)
    np.savez(tmp_path / "in.npz", x=np.array(["a", "b"]))
    refuses("in.npz: 'x' holds text, not numbers; save the inputs by name", *words)
    for arrays, message in (
        ({"z": random(2, 64)}, "no input 'z'; the model has: x"),
        ({}, r"input 'x' \[2, 64\] is missing"),
        ({"x": random(3, 64)}, r"input 'x' has the shape \[3, 64\]; the artifact was compiled for"),
    ):
        np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]
        refuses(message, *words)
    message = "artifact: not a language model"
    refuses(message, "run", artifact, "--prompt", "abc")
    refuses(message, "bench", artifact)
    (tmp_path / "text.txt").write_text("some text")
    refuses(message, "eval", artifact, "--text", tmp_path / "text.txt")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "broken", ["ladder.pipeline.artifact_writer._write_weights", "shutil.copyfile"]
)
def test_full_disk_while_compiling(
    refuses: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """While the weights are written, and while the library is written."""
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    cache.prepare(tmp_path / "cache")
    monkeypatch.setattr(broken, full_disk)
    words = ["compile", model, "-o", tmp_path / "out", "--dim", "M=1", "--no-check"]
    refuses("the disk is full; nothing was written: free some space", *words)


def test_full_disk_with_the_artifact_in_the_cache(
    refuses: Cli, cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compile", model, "--dim", "M=1", "-o"]
    assert cli(*words, tmp_path / "first").code == 0
    monkeypatch.setattr("shutil.copyfile", full_disk)
    refuses("out: the disk is full; nothing was written: free", *words, tmp_path / "out")


def test_full_disk_elsewhere(
    refuses: Cli, model: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "the disk is full; nothing was written: free some space"
    for broken in ("onnx_ir.save",):
        with monkeypatch.context() as patch:
            patch.setattr(broken, full_disk)
            _, quantize, opt = commands(model, tmp_path)
            refuses(message, *quantize, "--type", "int4:g32")
            refuses(message, *opt)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        refuses(message, "report", artifact, "-o", tmp_path / "page.html")


def test_nothing_to_quantize(refuses: Cli, model: Path, tmp_path: Path) -> None:
    relu = graph("g (float[2, 64] x) => (float[2, 64] y) { y = Relu(x) }", {})
    onnx.save(relu, model)
    compile, quantize, _ = commands(model, tmp_path)
    refuses("model.onnx: nothing to quantize .it has no weights.", *compile, code=3)
    refuses("has nothing to quantize .it has no weights.: nothing was", *quantize, code=3)


def test_quantized_already(refuses: Cli, cli: Cli, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "in" / "low.onnx"
    assert cli("quantize", model, target, "--type", "int4:g32").code == 0
    _, quantize, _ = commands(target, tmp_path)
    refuses("low.onnx is already quantized: nothing was written", *quantize, code=3)


def test_options_are_checked_before_anything_is_loaded(refuses: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not read")
    words = ["compile", tmp_path / "model.onnx", "-o", tmp_path / "out"]
    refuses("unknown type", *words, "--type", "int9:row")
    refuses("unknown target", *words, "--target", "z80")
    assert CompileOptions().target == "native"
