"""Sites: the nodes whose weights may change type, with their names and roles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ladder.ir import convolution
from ladder.ir.convolution import Window
from ladder.ir.factors import holds_factors, is_sinusoid

SITE_KEY = "ladder.site"
SCHEME_KEY = "ladder.scheme"  # on a DotGemm: the scheme, if it is not dot products
EXPERTS_KEY = "ladder.experts"  # on a Gather of experts' rows: "2 of 8" that a token chooses
APART_KEY = "ladder.apart"  # on such a Gather: a number may be -1, for no expert of its table
COMPUTED_KEY = "ladder.computed"  # on an initializer that no checkpoint holds
OP_KEY = "ladder.op"  # on a dialect node: the operator it stands for, if the name does not say it
BIAS_KEY = "ladder.bias"  # on an Add that was the third operand of a Gemm or Conv
WEIGHT_INPUT = {"MatMul": 1, "Gemm": 1, "Gather": 0, "Conv": 1, "ConvTranspose": 1}
LOW_BIT_OPS = frozenset(
    {
        "MatMulNBits",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "DequantizeLinear",
        "LowBitMatMul",
        "LowBitConv",
    }
)
OTHER_WEIGHTED_OPS = frozenset(
    {"LSTM", "GRU", "RNN", "MatMulInteger", "ConvInteger", "CausalConvWithState"}
)
SMALLEST_EMBEDDING_ROWS = 16

# Types of weights that are rounded. The low-bit products are computed in float32, between casts if
# the type of the model is another.
FLOATS = (
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
    ir.DataType.DOUBLE,
)
KIND_KEY = "ladder.float"  # on a dialect node and its casts: the model's type, if not FLOAT

ROLES = (
    (r"(mamba|mixer|ssm).*?(in_proj|x_proj|dt_proj|out_proj|conv)(1d)?$", r"mamba.\2"),
    (r"linear_attn\.(\w+?)(1d)?$", r"delta.\1"),
    (r"rwkv\.blocks\.\d+\.attention\.(\w+)$", r"rwkv.\1"),
    (r"rwkv\.blocks\.\d+\.feed_forward\.(\w+)$", r"rwkv.mlp.\1"),
    (r"temporal_block\.(linear_\w+|conv)", r"rglru.\1"),
    (r"\.conv\.(in_proj|out_proj)$", r"conv.\1"),
    (r"lm_head|embed_out|^head$", "lm_head"),
    (r"embed_tokens|wte|word_embeddings|tok_embeddings", "embed"),
    (r"wpe|position_embeddings", "embed.position"),
    (r"experts\.(\d+\.)?(gate_up_proj|gate_proj|up_proj)$", "moe.gate_up"),
    (r"experts\.(\d+\.)?down_proj$", "moe.down"),
    (r"(mlp|moe|feed_forward|block_sparse_moe)\.(gate|router)$|router\.layer$", "moe.router"),
    (r"(q_proj|query|\.wq)$", "attn.q"),
    (r"(k_proj|key|\.wk)$", "attn.k"),
    (r"(v_proj|value|\.wv)$", "attn.v"),
    (r"(o_proj|out_proj|attn\.c_proj|attention\.output\.dense|\.wo)$", "attn.o"),
    (r"(qkv_proj|c_attn|query_key_value|qkv)$", "attn.qkv"),
    (r"output_gate$", "attn.gate"),
    (r"(gate_proj|\.w1)$", "mlp.gate"),
    (r"(up_proj|c_fc|fc1|\.w3|intermediate\.dense)$", "mlp.up"),
    (r"(down_proj|mlp\.c_proj|fc2|\.w2|output\.dense)$", "mlp.down"),
)


@dataclass(frozen=True)
class Site:
    """A weight and a node that reads it. ``n`` and ``k`` are out and in features."""

    name: str
    role: str
    node: ir.Node
    weight: ir.Value
    n: int
    k: int
    transposed: bool  # the stored weight is [K, N], so codes are those of its transpose

    @property
    def parameters(self) -> int:
        return self.n * self.k

    @property
    def kind(self) -> ir.DataType:
        """The float type of the weight in the model."""
        tensor = constant_of(self.weight)
        assert tensor is not None
        return tensor.dtype

    @property
    def experts(self) -> tuple[int, int]:
        """Of how many experts a token is multiplied by the weights of how many: (2, 8)."""
        text = self.node.metadata_props.get(EXPERTS_KEY, "1 of 1")
        chosen, _, count = text.partition(" of ")
        return int(chosen), int(count)

    @property
    def window(self) -> Window | None:
        """A Conv's window; None for products and tables."""
        tensor = constant_of(self.weight)
        if self.node.op_type != "Conv" or tensor is None:
            return None
        return Window.of(self.node, [int(d) for d in tensor.shape[2:]])  # type: ignore[arg-type]

    def array(self) -> np.ndarray:
        """The weight as [N, K] float32."""
        tensor = constant_of(self.weight)
        assert tensor is not None
        array = tensor.numpy().astype(np.float32, copy=False)
        if self.node.op_type == "Conv":
            array = convolution.rows_of(array)
        return np.ascontiguousarray(array.T if self.transposed else array)


@dataclass(frozen=True)
class Refusal:
    """A node with a weight that is skipped, and the reason."""

    name: str
    op: str
    reason: str


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant of a value: that of an initializer or of a Constant node."""
    if value is None:
        return None
    if value.const_value is not None and value.producer() is None:
        return value.const_value
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        attribute = node.attributes.get("value")
        return attribute.as_tensor() if attribute is not None else None
    return None


def find_sites(model: ir.Model) -> tuple[list[Site], list[Refusal]]:
    """Every site of the model, and every other node with a weight; subgraphs are included."""
    sites: list[Site] = []
    refusals: list[Refusal] = []
    names: set[str] = set()
    for node in weighted_nodes(model):
        found = _examine(node)
        name = _unique(_site_name(node), names)
        if isinstance(found, str):
            refusals.append(Refusal(name, node.op_type, found))
        else:
            weight, transposed, n, k = found
            sites.append(Site(name, _role(name, node), node, weight, n, k, transposed))
    return sites, refusals


def weighted_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes that read a weight, in order, with those in subgraphs."""
    for node in model.graph.all_nodes():
        if _reads_experts(node):  # the node that selects them is the site
            continue
        plain = node.domain in ("", "ai.onnx") and node.op_type in WEIGHT_INPUT
        if plain or node.op_type in OTHER_WEIGHTED_OPS or node.op_type in LOW_BIT_OPS:
            yield node


def _reads_experts(node: ir.Node) -> bool:
    """Whether a product's operand is the weights of chosen experts."""
    makers = (value.producer() for value in node.inputs if value is not None)
    chosen = any(maker is not None and EXPERTS_KEY in maker.metadata_props for maker in makers)
    return node.op_type == "MatMul" and chosen


def _examine(node: ir.Node) -> tuple[ir.Value, bool, int, int] | str:
    """(weight, whether it is stored as [K, N], n, k), or the reason why the node is not a site."""
    if node.op_type in LOW_BIT_OPS:
        return "already low-bit"
    if node.op_type in OTHER_WEIGHTED_OPS:
        return f"{node.op_type} has no low-bit kernel"
    value = node.inputs[WEIGHT_INPUT[node.op_type]]
    flipped = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not _int_attribute(node, "transB", 0)
    )
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Transpose" and _is_2d_swap(producer):
        value, flipped = producer.inputs[0], not flipped
    reason = _refuse(node, value)
    if reason is not None:
        return reason
    tensor = constant_of(value)
    assert value is not None and tensor is not None
    rows, *inner = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    columns = prod(inner)
    n, k = (columns, rows) if flipped else (rows, columns)
    return value, flipped, n, k


def _refuse(node: ir.Node, value: ir.Value | None) -> str | None:
    tensor = constant_of(value)
    if tensor is None:
        return "its second operand is computed, not a constant weight"
    if node.op_type == "ConvTranspose":
        return "ConvTranspose has no low-bit form"
    if tensor.size == 0:
        return "its weight is empty"
    if value is not None and COMPUTED_KEY in value.metadata_props:
        return "the model computes its table, which no checkpoint holds"
    if tensor.dtype not in FLOATS:
        return f"its weight is {tensor.dtype.name}, not a float"
    if node.op_type == "Conv":
        return convolution.refuse(node, [int(d) for d in tensor.shape])  # type: ignore[arg-type]
    if len(tensor.shape) != 2:
        return f"its weight has {len(tensor.shape)} dimensions, not 2"
    return _refuse_attributes(node, tensor)


def _refuse_attributes(node: ir.Node, tensor: ir.TensorProtocol) -> str | None:
    if node.op_type == "Gather" and _int_attribute(node, "axis", 0) != 0:
        return "it gathers along an axis other than the rows"
    if node.op_type == "Gather" and int(tensor.shape[0]) < SMALLEST_EMBEDDING_ROWS:  # type: ignore[arg-type]
        return "its table is too small for low-bit types to pay off"
    if node.op_type == "Gemm" and _int_attribute(node, "transA", 0):
        return "Gemm with transA"
    if node.op_type == "Gather" and holds_factors(node, tensor):
        return "its rows are factors of activations, as those of rotary embeddings are"
    if node.op_type == "Gather" and is_sinusoid(tensor):
        return "its columns are sines of positions"
    scaled = [a for a in ("alpha", "beta") if _float_attribute(node, a, 1.0) != 1.0]
    return f"Gemm with {scaled[0]} other than 1" if node.op_type == "Gemm" and scaled else None


def _int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _float_attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def _is_2d_swap(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return perm is not None and tuple(perm.as_ints()) == (1, 0)


def _site_name(node: ir.Node) -> str:
    if SITE_KEY in node.metadata_props:
        return node.metadata_props[SITE_KEY]
    weight = node.inputs[WEIGHT_INPUT.get(node.op_type, 1)] if len(node.inputs) > 1 else None
    producer = weight.producer() if weight is not None else None
    if producer is not None and producer.op_type == "Transpose":
        weight = producer.inputs[0]
    named = weight is not None and weight.name and weight.name.endswith(".weight")
    if named and weight is not None and weight.name and node.op_type != "Gather":
        return weight.name.removesuffix(".weight")
    scope = _module_scope(node)
    return scope or node.name or (node.outputs[0].name or node.op_type)


def _module_scope(node: ir.Node) -> str | None:
    """The torch module that made the node, from the exporter's metadata."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    try:
        names = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # no list of names
        return None
    known = isinstance(names, list) and len(names) >= 2 and names[-2]
    return str(names[-2]) if known else None


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    taken.add(candidate)
    return candidate


def _role(name: str, node: ir.Node) -> str:
    base = name.split("#")[0]
    for pattern, role in ROLES:
        found = re.search(pattern, base)
        if found:
            return found.expand(role)
    return "embed" if node.op_type == "Gather" else node.op_type.lower()
