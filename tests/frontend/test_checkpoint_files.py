"""What lies in a folder or GGUF file is read as what it is, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import families
import gguf
import gguf_files
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ladder.errors import LadderError
from ladder.frontend.checkpoints import Folder, Gguf, read_model
from ladder.frontend.gguf.files import read_files, values_of
from ladder.frontend.torch_model import WHOLE, Opened

DOWN = "model.layers.0.mlp.down_proj.weight"
UP = "blk.0.ffn_up.weight"
EXPERT = "model.layers.1.block_sparse_moe.experts.2.w1.weight"


def opened(path: Path) -> Opened:
    return read_model(Folder(path) if path.is_dir() else Gguf.at(path))


def values(path: Path) -> dict[str, np.ndarray]:
    found = opened(path)
    if found.stored:
        return {name: tensor.read() for name, tensor in found.stored.items()}
    return {name: t.numpy() for name, t in found.model.state_dict().items()}


def without(*names: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in checkpoints.weights().items() if n not in names}


def other_values() -> dict[str, torch.Tensor]:
    return {name: tensor + 1 for name, tensor in checkpoints.weights().items()}


def two_files(folder: Path) -> tuple[Path, dict[str, str]]:
    """Two files of half of the tensors each, and which one each is in."""
    checkpoints.write_config(folder, None)
    tensors = list(checkpoints.weights().items())
    in_file: dict[str, str] = {}
    for file, part in (("a.safetensors", tensors[:5]), ("b.safetensors", tensors[5:])):
        checkpoints.save(folder / file, dict(part))
        in_file |= {name: file for name, _ in part}
    return folder, in_file


def same(path: Path) -> None:
    found = values(path)
    for name, wanted in checkpoints.weights().items():
        assert np.array_equal(found[name], wanted.numpy()), name


def test_a_second_file_is_not_looked_at(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m", checkpoints.weights())
    checkpoints.save(folder / "old_checkpoint.safetensors", other_values())
    same(folder)


def test_an_index_says_which_files_count(tmp_path: Path) -> None:
    folder, in_file = two_files(tmp_path / "m")
    checkpoints.write_index(folder, in_file)
    checkpoints.save(folder / "c.safetensors", other_values())
    same(folder)


def test_files_of_any_names_without_an_index(tmp_path: Path) -> None:
    same(two_files(tmp_path / "m")[0])


def test_pickled_weights(tmp_path: Path) -> None:
    folder = checkpoints.write_config(tmp_path / "m", None)
    torch.save(checkpoints.weights(), folder / "pytorch_model.bin")
    same(folder)


def test_other_names_are_found_by_transformers(tmp_path: Path) -> None:
    inner = {name.removeprefix("model."): t for name, t in checkpoints.weights().items()}
    folder = checkpoints.write(tmp_path / "m", inner)
    assert WHOLE in opened(folder).notes
    same(folder)


def no_such_file(folder: Path) -> Path:
    folder, in_file = two_files(folder)
    checkpoints.write_index(folder, {**in_file, DOWN: "c.safetensors"})
    return folder


def not_in_that_file(folder: Path) -> Path:
    folder, in_file = two_files(folder)
    checkpoints.write_index(folder, {**in_file, DOWN: "a.safetensors"})
    return folder


def twice(folder: Path) -> Path:
    folder, _ = two_files(folder)
    checkpoints.save(folder / "c.safetensors", other_values())
    return folder


def cut_off(folder: Path) -> Path:
    path = checkpoints.write(folder, checkpoints.weights()) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


def written(
    tensors: Callable[[], dict[str, torch.Tensor]],
    settings: dict[str, Any] | None = None,
    **changed: Any,
) -> Callable[[Path], Path]:
    return lambda folder: checkpoints.write(folder, tensors(), settings, **changed)


def as_float8() -> dict[str, torch.Tensor]:
    return {**checkpoints.weights(), DOWN: checkpoints.weights()[DOWN].to(torch.float8_e4m3fn)}


def untied() -> dict[str, torch.Tensor]:
    return {**checkpoints.weights(), "lm_head.weight": torch.zeros(128, 128)}


def with_bias() -> dict[str, torch.Tensor]:
    return {**checkpoints.weights(), "model.layers.0.mlp.down_proj.bias": torch.zeros(128)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (written(lambda: without("lm_head.weight")), "no tensor for lm_head.weight; fetch"),
        (written(lambda: without(DOWN)), f"no tensor for {DOWN}; fetch the missing files"),
        (written(lambda: without(DOWN, "lm_head.weight")), "and 1 more; fetch"),
        (
            written(checkpoints.weights, intermediate_size=264),
            "gate_proj.weight: stored with shape [256, 128], and the configuration wants [264, 128",
        ),
        (written(checkpoints.weights, head_dim=16), "q_proj.weight: stored with shape [128, 128]"),
        (written(checkpoints.weights, vocab_size=136), "embed_tokens.weight: stored with shape"),
        (written(as_float8), f"{DOWN}: stored as float8_e4m3fn, and nothing says what that means"),
        (
            written(as_float8, {"quant_method": "gptq", "bits": 4}),
            f"{DOWN}: stored as float8_e4m3fn, and the rules of gptq do not say what that means",
        ),
        (written(checkpoints.weights, {"quant_method": "hqq"}), "quant_method = hqq has no rule"),
        (written(untied, tie_word_embeddings=True), "set tie_word_embeddings to false"),
        (written(with_bias), "down_proj.bias: in the checkpoint, but LlamaForCausalLM with this"),
        (no_such_file, "names c.safetensors, which is missing; fetch it"),
        (not_in_that_file, f"says that {DOWN} is in a.safetensors, which does not hold it"),
        (twice, "is in both b.safetensors and c.safetensors, and there is no index"),
        (cut_off, "model.safetensors: truncated or damaged"),
        (lambda folder: checkpoints.write_config(folder, None), "holds no weights"),
    ],
    ids=lambda value: "" if callable(value) else value[:40],
)
def test_a_folder_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(LadderError) as refused:
        opened(make(tmp_path / "m"))
    assert message in str(refused.value)
    assert str(tmp_path / "m") in str(refused.value)
    assert "\n" not in str(refused.value)


def mixture(folder: Path) -> tuple[Path, dict[str, torch.Tensor], Any]:
    """A model whose experts are stored one by one, as hubs have them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(families.RIGHT["Mixtral"]())
    model.save_pretrained(folder)
    return folder, load_file(folder / "model.safetensors"), model


def test_experts_one_by_one(tmp_path: Path) -> None:
    folder, tensors, model = mixture(tmp_path / "m")
    found = values(folder)
    assert EXPERT in tensors and EXPERT not in found
    for name, wanted in model.state_dict().items():
        assert np.array_equal(found[name], wanted.numpy()), name
    checkpoints.save(
        folder / "model.safetensors", {n: t for n, t in tensors.items() if n != EXPERT}
    )
    with pytest.raises(LadderError, match=f"no tensor {EXPERT}, and other experts have one"):
        opened(folder)
    checkpoints.save(folder / "model.safetensors", {**tensors, EXPERT: tensors[EXPERT][:40]})
    with pytest.raises(LadderError, match=f"{EXPERT}: stored with shape .40, 32., and"):
        opened(folder)
    fewer = {n: t for n, t in tensors.items() if "experts.3." not in n}
    checkpoints.save(folder / "model.safetensors", fewer)
    with pytest.raises(LadderError, match=r"experts.down_proj: stored with shape .3, 32, 48., and"):
        opened(folder)


def test_packed_experts_one_by_one(tmp_path: Path) -> None:
    """Each is read by its rule before transformers stacks them."""
    folder, tensors, _ = mixture(tmp_path / "m")
    wanted = {}
    for name in [name for name in tensors if ".experts." in name]:
        weight = tensors.pop(name)
        scale = weight.abs().max().reshape(1, 1) / 448
        codes = (weight / scale).to(torch.float8_e4m3fn)
        tensors |= {name: codes, f"{name}_scale_inv": scale}
        wanted[name] = (codes.float() * scale).numpy()
    checkpoints.save(folder / "model.safetensors", tensors)
    said = json.loads((folder / "config.json").read_text())
    said["quantization_config"] = {"quant_method": "fp8"}
    (folder / "config.json").write_text(json.dumps(said))
    down = values(folder)["model.layers.0.mlp.experts.down_proj"]
    one = "model.layers.0.block_sparse_moe.experts.{}.w2.weight"
    assert np.array_equal(down, np.stack([wanted[one.format(i)] for i in range(4)]))


def test_tensors_of_modules_that_the_model_lacks_are_noted(tmp_path: Path) -> None:
    tower = {**checkpoints.weights(), "vision.norm.weight": torch.zeros(8)}
    (note,) = opened(checkpoints.write(tmp_path / "m", tower)).notes
    assert note == "1 tensors of the checkpoint are not of this model (vision.norm.weight, ...)"


def test_a_gguf_is_split_and_read_from_any_part(tmp_path: Path) -> None:
    whole = values(gguf_files.write(tmp_path / "whole.gguf"))
    parts = gguf_files.write_split(tmp_path)
    for part in parts:
        found = values(part)
        assert found.keys() == whole.keys()
        assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_every_type_of_gguf_is_decoded_as_gguf_does(tmp_path: Path) -> None:
    kinds = gguf.GGMLQuantizationType
    for kind in (kinds.Q4_0, kinds.Q4_1, kinds.Q8_0, kinds.BF16, kinds.TQ1_0):
        arrays = {UP: gguf_files.llama_tensors()[UP].repeat(4, axis=1)}
        path = gguf_files.write(tmp_path / f"{kind.name}.gguf", arrays=arrays, kinds={UP: kind})
        read = gguf.GGUFReader(path).tensors[0]
        wanted = gguf.dequantize(read.data, read.tensor_type)
        assert np.array_equal(values_of(read_files(path).tensors[UP]), wanted)


def lacking(path: Path) -> Path:
    arrays = gguf_files.llama_tensors()
    del arrays["blk.0.ffn_down.weight"]
    return gguf_files.write(path, arrays=arrays)


def one_part(path: Path) -> Path:
    first, second = gguf_files.write_split(path.parent)
    second.unlink()
    return first


def renamed_part(path: Path) -> Path:
    return gguf_files.write_split(path.parent)[0].rename(path)


def adapter(path: Path) -> Path:
    arrays = {f"{UP}.lora_a": np.zeros((4, 64), np.float32)}
    return gguf_files.write(path, {}, arrays, general={"general.type": "adapter"})


def quantized(path: Path) -> Path:
    return gguf_files.write(path, kinds={UP: gguf.GGMLQuantizationType.Q8_0})


def shortened(path: Path) -> Path:
    data = gguf_files.write(path).read_bytes()
    path.write_bytes(data[:-1000])
    return path


def in_header(path: Path) -> Path:
    path.write_bytes(gguf_files.write(path).read_bytes()[:700])
    return path


def with_key(**changed: Any) -> Callable[[Path], Path]:
    names = {name.replace("__", "."): value for name, value in changed.items()}
    return lambda path: gguf_files.write(path, {**gguf_files.LLAMA, **names})


def with_tensor(name: str, shape: tuple[int, ...]) -> Callable[[Path], Path]:
    arrays = {**gguf_files.llama_tensors(), name: np.ones(shape, np.float32)}
    return lambda path: gguf_files.write(path, arrays=arrays)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lacking, f"no tensor for {DOWN}; fetch"),
        (one_part, "tiny-00002-of-00002.gguf is missing; fetch it"),
        (renamed_part, "one of 2 parts of a split model, and its name does not say which"),
        (adapter, "general.type=adapter, no model; merge it"),
        (lambda p: gguf_files.number_type(quantized(p), UP, 36), f"{UP} has type 36 of ggml"),
        (lambda p: gguf_files.number_type(quantized(p), UP, 15), f"{UP} has type Q8_K, which gguf"),
        (lambda p: gguf_files.announce(gguf_files.write(p), 1 << 40), "more than its"),
        (shortened, "truncated: output.weight ends at"),
        (in_header, "a truncated or damaged GGUF file"),
        (with_key(feed_forward_length=192), "stored with shape [128, 64], and the configuration"),
        (with_key(attention__sliding_window=8), "llama.attention.sliding_window = 8: LlamaConfig"),
        (with_key(final_logit_softcapping=3.0), "llama.final_logit_softcapping = 3.0"),
        (with_key(expert_count=8), "llama.expert_count = 8"),
        (with_key(rope__scaling__type="su"), "rope.scaling.type = su has no rule"),
        (with_key(rope__scaling__type="yarn"), "rope.scaling.type without rope.scaling.factor"),
        (with_tensor("blk.0.attn_q.bias", (64,)), "blk.0.attn_q.bias: nothing in LlamaForCausalLM"),
        (with_tensor("rope_freqs.weight", (4,)), "has 4 factors for 8 frequencies"),
    ],
    ids=lambda value: "" if callable(value) else value[:40],
)
def test_a_gguf_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path / "m.gguf")
    with pytest.raises(LadderError) as refused:
        opened(path)
    assert message in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_metadata_reach_the_configuration(tmp_path: Path) -> None:
    said = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
    config = opened(gguf_files.write_gemma(tmp_path / "g.gguf", **said)).model.config
    assert (config.sliding_window, config.head_dim, config.query_pre_attn_scalar) == (8, 16, 16)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (5.0, 3.0)
    assert (config.rope_parameters["rope_type"], config.rope_parameters["factor"]) == ("yarn", 4.0)
    assert config.rope_parameters["original_max_position_embeddings"] == 256


def test_frequencies_are_divided_by_the_factors_of_the_file(tmp_path: Path) -> None:
    arrays = {**gguf_files.llama_tensors(), **gguf_files.ROPE_FREQS}
    plain = opened(gguf_files.write(tmp_path / "a.gguf")).model.model.rotary_emb.inv_freq
    found = opened(gguf_files.write(tmp_path / "b.gguf", arrays=arrays)).model.model.rotary_emb
    factors = torch.from_numpy(gguf_files.ROPE_FREQS["rope_freqs.weight"])
    assert torch.equal(found.inv_freq, plain / factors)
