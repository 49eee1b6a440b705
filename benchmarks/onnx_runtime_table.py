"""ONNX Runtime's own quantization tools, Olive and Ladder on three models: time, size, error.

    python benchmarks/onnx_runtime_table.py [--models minilm vit resnet] [--threads 1]

Makes the models (random weights in the shapes of MiniLM-L6, ViT-S/16 and ResNet-18), quantizes each
with every tool, runs all files in ONNX Runtime in turns, and prints a table in Markdown: medians of
wall and CPU time of a call, bytes on disk, and the relative error of the outputs (root mean
square) on inputs that calibration did not see. A few minutes on two cores. Files are kept in
``--folder``, and made again only if they are missing. Olive is measured if it is installed (``pip
install olive-ai``).
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import ladder
from ladder.pipeline.file_bench import Arrays, bench_files, busy
from ladder.support.processor import cpu_name

CALIBRATION, TESTED = 16, 4  # samples
IMAGE, WORDS, VOCABULARY = (1, 3, 224, 224), (1, 128), 30522
OPSET = 18
Make = Callable[[Path, Path], None]  # (source, target): write a quantized file


@dataclass(frozen=True)
class Tool:
    """A way to quantize: its class, its name, and what it does to the files of which models."""

    kind: str
    name: str
    make: Callable[[str], Make]
    models: tuple[str, ...] = ("minilm", "vit", "resnet")


def samples(model: str, count: int, seed: int) -> list[Arrays]:
    """Random inputs of a model."""
    random = np.random.default_rng(seed)
    if model != "minilm":
        return [{"x": random.standard_normal(IMAGE).astype(np.float32)} for _ in range(count)]
    mask = np.ones(WORDS, np.int64)
    return [{"ids": random.integers(0, VOCABULARY, WORDS), "mask": mask} for _ in range(count)]


def write_model(model: str, path: Path) -> None:
    """Export a model with random weights."""
    import torch

    torch.manual_seed(0)
    module, names = _module(model)
    args = tuple(torch.from_numpy(np.asarray(a)) for a in samples(model, 1, 0)[0].values())
    program = torch.onnx.export(
        module.eval(), args, dynamo=True, input_names=names, opset_version=OPSET, verbose=False
    )
    assert program is not None
    program.save(path)


def _module(model: str) -> tuple[Any, list[str]]:
    """A torch module that returns one tensor, and the names of its inputs."""
    import torch
    import transformers as hf

    if model == "minilm":
        config = hf.BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
        whole: Any = hf.BertModel(config, add_pooling_layer=False)
    elif model == "vit":
        config = hf.ViTConfig(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536,
            num_labels=1000,
        )  # fmt: skip
        whole = hf.ViTForImageClassification(config)
    else:
        config = hf.ResNetConfig(
            hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
            num_labels=1000,
        )  # fmt: skip
        whole = hf.ResNetForImageClassification(config)

    class First(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, *inputs: Any) -> Any:
            return self.whole(*inputs)[0]

    return First(), ["ids", "mask"] if model == "minilm" else ["x"]


class Reader:
    """Calibration data as ONNX Runtime's tools read it."""

    def __init__(self, model: str) -> None:
        self._left: Iterator[Arrays] = iter(samples(model, CALIBRATION, 1))

    def get_next(self) -> Arrays | None:
        return next(self._left, None)


def prepared(source: Path) -> Path:
    """The file after ONNX Runtime's preparation, which its documentation asks for."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = source.with_suffix(".prepared.onnx")
    if not path.exists():
        quant_pre_process(str(source), str(path))
    return path


def ort_dynamic(per_channel: bool) -> Callable[[str], Make]:
    from onnxruntime.quantization import quantize_dynamic

    return lambda model: (
        lambda source, target: quantize_dynamic(prepared(source), target, per_channel=per_channel)
    )


def ort_static(model: str) -> Make:
    from onnxruntime.quantization import quantize_static

    return lambda source, target: quantize_static(
        prepared(source), target, Reader(model), per_channel=True
    )


def ort_4_bits(model: str) -> Make:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    def make(source: Path, target: Path) -> None:
        quantizer = MatMulNBitsQuantizer(str(source), bits=4, block_size=32, is_symmetric=True)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))

    return make


def olive(name: str, **options: Any) -> Callable[[str], Make]:
    """A pass of Olive, in its own words."""

    def make(source: Path, target: Path) -> None:
        import olive.passes.onnx.quantization as passes
        from olive.model import ONNXModelHandler
        from olive.passes.olive_pass import create_pass_from_dict

        step = create_pass_from_dict(getattr(passes, name), options, disable_search=True)
        with tempfile.TemporaryDirectory() as folder:
            made = step.run(ONNXModelHandler(str(source)), str(Path(folder) / "out.onnx"))
            shutil.copy(made.model_path, target)

    return lambda model: make


def own(**options: Any) -> Callable[[str], Make]:
    """``ladder quantize`` with these options."""

    def tool(model: str) -> Make:
        def make(source: Path, target: Path) -> None:
            asked = dict(options)
            if str(options.get("activation", "")).endswith(":static"):
                some = samples(model, CALIBRATION, 1)
                asked["calib"] = source.with_suffix(".npz")
                stacked: dict[str, Any] = {n: np.stack([s[n] for s in some]) for n in some[0]}
                np.savez(asked["calib"], **stacked)
            ladder.export_onnx(source, target, **asked)

        return make

    return tool


TRANSFORMERS = ("minilm", "vit")
TOOLS = (
    Tool("dynamic", "ORT `quantize_dynamic`", ort_dynamic(False)),
    Tool("dynamic", "ORT `quantize_dynamic`, per channel", ort_dynamic(True)),
    Tool("dynamic", "Olive `OnnxDynamicQuantization`", olive("OnnxDynamicQuantization")),
    Tool(
        "dynamic", "Ladder `--type int8:row --activation uint8`",
        own(type="int8:row", activation="uint8"),
    ),
    Tool("static", "ORT `quantize_static`, per channel", ort_static),
    Tool(
        "static", "Ladder `--type int8:row --activation uint8:static`",
        own(type="int8:row", activation="uint8:static"),
    ),
    Tool(
        "static", "Ladder, the same with `--rounding gptq`",
        own(type="int8:row", activation="uint8:static", rounding="gptq"), ("resnet",),
    ),
    Tool("4 bits", "ORT `MatMulNBitsQuantizer`, groups of 32", ort_4_bits, TRANSFORMERS),
    Tool("4 bits", "Ladder `--only MatMul` (`int4:g32`)", own(only="MatMul"), TRANSFORMERS),
    Tool("4 bits", "Ladder, the default: embeddings and convolutions too", own(), TRANSFORMERS),
)  # fmt: skip


def table(model: str, folder: Path, threads: int) -> list[str]:
    """The lines of a model's table."""
    source = folder / f"{model}.onnx"
    if not source.exists():
        write_model(model, source)
    files, names = {source: source.stat().st_size}, [("", "float")]
    for tool in TOOLS:
        if model not in tool.models:
            continue
        if tool.name.startswith("Olive") and importlib.util.find_spec("olive") is None:
            print(f"{tool.name}: not installed")
            continue
        target = folder / f"{model}.{re.sub('[^a-z0-9]+', '-', tool.name.lower())}.onnx"
        if not target.exists():
            tool.make(model)(source, target)
        files[target] = target.stat().st_size
        names.append((tool.kind, tool.name))
    rows = bench_files(files, samples(model, TESTED, 2), threads)
    note = ["", "The machine was busy: compare CPU times."] if busy(rows, threads) else []
    head = [
        f"### {model}",
        "",
        "| class | tool | ms | CPU ms | MB | error |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *map(_line, names, rows), *note]


def _line(named: tuple[str, str], row: Mapping[str, float]) -> str:
    kind, name = named
    times = f"{row['ms']:.1f} | {row['cpu_ms']:.1f}"
    return f"| {kind} | {name} | {times} | {row['size_bytes'] / 1e6:.1f} | {row['error']:.3g} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=["minilm", "vit", "resnet"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/onnx-runtime-table"))
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    ort.set_default_logger_severity(3)
    asked.folder.mkdir(parents=True, exist_ok=True)
    versions = f"ONNX Runtime {ort.__version__}, {cpu_name()}, {platform.system()}"
    print(f"{date.today()}, {versions}, threads: {asked.threads}")
    for model in asked.models:
        print("\n" + "\n".join(table(model, asked.folder, asked.threads)), flush=True)


if __name__ == "__main__":
    main()
