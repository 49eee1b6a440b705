"""Loading ONNX files: where weights may be, what stays on disk, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.frontend.load import load
from ladder.frontend.onnx_file import load_onnx
from ladder.ir.site import find_sites

MATMUL = "g (float[M, 64] x) => (float[M, 8] y) { y = MatMul(x, w) }"
CONSTANT = """g (float[M, 2] x) => (float[M, 2] y) {
    w = Constant<value = float[2, 2] {1., 2., 3., 4.}>()
    y = MatMul(x, w)
}"""
NESTED = """g (float[M, 64] x, bool c) => (float[M, 8] y) {
    y = If(c) <
        then_branch = yes () => (float[M, 8] a) { a = MatMul(x, w) },
        else_branch = no () => (float[M, 8] b) {
            b = If(c) <
                then_branch = in1 () => (float[M, 8] d) { d = MatMul(x, w) },
                else_branch = in2 () => (float[M, 8] e) { n = Neg(x) e = MatMul(n, w) }
            >
        }
    >
}"""


def saved(tmp_path: Path, proto: onnx.ModelProto, external: bool = False) -> Path:
    path = tmp_path / "model.onnx"
    options = {"location": "weights.bin", "size_threshold": 0, "convert_attribute": True}
    onnx.save(proto, path, save_as_external_data=external, **(options if external else {}))
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    return saved(tmp_path, graph(MATMUL, {"w": random(64, 8)}), external=True)


def test_external_data_stays_on_disk(external: Path) -> None:
    """A weight is read when it is used, for a file of any size."""
    model = load_onnx(external).model
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    (site,), _ = find_sites(model)
    assert isinstance(site.weight.const_value, ir.ExternalTensor)
    np.testing.assert_array_equal(site.array(), random(64, 8).T)


def test_external_data_of_terabytes(tmp_path: Path) -> None:
    """A sparse file of 4 TB, of which only the size is read."""
    proto = graph(MATMUL, {})
    size = 1 << 42
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[64, 1 << 34])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "0", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
    assert load_onnx(saved(tmp_path, proto)).model.graph.initializers["w"].shape == (64, 1 << 34)


def test_external_data_missing(external: Path) -> None:
    external.with_name("weights.bin").unlink()
    with pytest.raises(LadderError, match=r"weight 'w' is in weights.bin, which is missing; put"):
        load_onnx(external)


@pytest.mark.parametrize("folder", ["", "in"])
@pytest.mark.parametrize("absolute", [False, True])
def test_external_data_outside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, absolute: bool
) -> None:
    """A model must not make Ladder read files outside its folder, from any path."""
    (tmp_path / "in").mkdir()
    path = saved(tmp_path / "in", graph(MATMUL, {"w": random(64, 8)}), external=True)
    (tmp_path / "in" / "weights.bin").rename(tmp_path / "weights.bin")
    proto = onnx.load(path, load_external_data=False)
    place = str(tmp_path / "weights.bin") if absolute else "../weights.bin"
    proto.graph.initializer[0].external_data[0].value = place
    path.write_bytes(proto.SerializeToString())
    monkeypatch.chdir(tmp_path if folder else tmp_path / "in")
    with pytest.raises(LadderError, match=r"weights.bin, outside the model's folder; put the"):
        load_onnx(Path(folder, "model.onnx"))


def test_external_data_truncated(external: Path) -> None:
    with external.with_name("weights.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(LadderError, match=r"ends at byte 100, but weight 'w' reaches to 2048: "):
        load_onnx(external)


def test_external_data_of_a_constant_node_missing(tmp_path: Path) -> None:
    proto = graph(CONSTANT, {})
    tensor = onnx.numpy_helper.from_array(random(2, 2), "w")
    proto.graph.node[0].attribute[0].t.CopyFrom(tensor)
    path = saved(tmp_path, proto, external=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(LadderError, match="which is missing"):
        load_onnx(path)


def test_external_data_of_a_constant_node_is_part_of_the_digest(tmp_path: Path) -> None:
    proto = graph(CONSTANT, {})
    proto.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(random(2, 2), "w"))
    path = saved(tmp_path, proto, external=True)
    first = load_onnx(path)
    assert load_onnx(path).digest == first.digest
    (tmp_path / "weights.bin").write_bytes(random(2, 2, seed=1).tobytes())
    assert load_onnx(path).digest != first.digest


def test_external_data_by_a_link(external: Path) -> None:
    """Links within the folder are followed; others, and hard links, are refused like by ONNX."""
    data = external.with_name("weights.bin")
    data.rename(data.with_name("blob"))
    data.symlink_to("blob")
    (site,), _ = find_sites(load_onnx(external).model)
    np.testing.assert_array_equal(site.array(), random(64, 8).T)
    outside = external.parent.with_name(f"{external.parent.name}-blob")
    data.with_name("blob").rename(outside)
    data.unlink()
    data.symlink_to(outside)
    with pytest.raises(LadderError, match=r"weights.bin, outside the model's folder; put the"):
        load_onnx(external)
    data.unlink()
    data.hardlink_to(outside)
    with pytest.raises(LadderError, match=r"weights.bin, which has other hard links; copy the"):
        load_onnx(external)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match=r"none.onnx: no such file or folder; give an ONNX"):
        load(tmp_path / "none.onnx")
    with pytest.raises(LadderError, match=r"none.onnx: no such file"):
        load_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, part: float) -> None:
    path = saved(tmp_path, graph(MATMUL, {"w": random(64, 8)}))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(LadderError, match=r"model.onnx: .*it may be truncated[:;] fetch it again"):
        load_onnx(path)


def test_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(LadderError, match=r"model.onnx: not a readable ONNX file"):
        load_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("opset", [11, 13, 17, 21, 25])
def test_opsets(tmp_path: Path, opset: int) -> None:
    source = load_onnx(saved(tmp_path, graph(MATMUL, {"w": random(64, 8)}, opset)))
    assert source.model.graph.opset_imports[""] == opset and not source.notes


def test_old_opset(tmp_path: Path) -> None:
    path = saved(tmp_path, graph(MATMUL, {"w": random(64, 8)}, 10))
    with pytest.raises(LadderError, match="opset 10 is older than 11; convert it with"):
        load_onnx(path)


def test_weights_in_constant_nodes(tmp_path: Path) -> None:
    (site,), refusals = find_sites(load_onnx(saved(tmp_path, graph(CONSTANT, {}))).model)
    assert (site.n, site.k, refusals) == (2, 2, [])
    np.testing.assert_array_equal(site.array(), [[1, 3], [2, 4]])


def test_sites_in_subgraphs(tmp_path: Path) -> None:
    model = load_onnx(saved(tmp_path, graph(NESTED, {"w": random(64, 8)}))).model
    assert [site.name for site in find_sites(model)[0]] == ["a", "d", "e"]


def test_weights_that_are_also_inputs(tmp_path: Path) -> None:
    text = MATMUL.replace("x)", "x, float[64, 8] w)")
    source = load_onnx(saved(tmp_path, graph(text, {"w": random(64, 8)})))
    assert [value.name for value in source.model.graph.inputs] == ["x"]
    assert source.notes == ["weights that were also graph inputs are now constants: w"]
    assert len(find_sites(source.model)[0]) == 1


def test_unknown_domains_and_local_functions_pass_through(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1, "custom": 1]>
    g (float[M, 8] x) => (float[M, 8] y) { h = custom.Thing<k = 3>(x) y = local.f(h) }
    <domain: "local", opset_import: ["": 21]> f (a) => (b) { b = Relu(a) }
    """
    proto = onnx.parser.parse_model(text)
    model = load_onnx(saved(tmp_path, proto)).model
    assert ir.to_proto(model).graph.node == proto.graph.node
    assert [f.name for f in model.functions.values()] == ["f"]
