"""Which tensors of a checkpoint make up each weight, by the method that it was quantized with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ladder.errors import LadderError
from ladder.frontend.packed import awq, bitnet, bnb, compressed, fp8, gptq, mxfp4
from ladder.frontend.packed.stored import FLOATS, StoredTensor, plain
from ladder.frontend.weight_files import Raw, RawTensor

Maker = Callable[[str, Mapping[str, RawTensor], Mapping[str, Any]], StoredTensor]


@dataclass(frozen=True)
class Format:
    """Tensors whose names end in ``mark`` show that their owner's weight is packed.

    ``parts`` are the ends of the names of all tensors that belong to it, ``unused`` those of
    tensors next to it that have no part in the weight, such as the scales of activations.
    """

    mark: str
    make: Maker
    parts: tuple[str, ...]
    gives: str = ".weight"
    unused: tuple[str, ...] = (".input_scale", ".output_scale", ".activation_scale")


NF4_PARTS = (".quant_map", ".absmax", ".nested_absmax", ".nested_quant_map")
FOUR_BITS = (".weight", *(f".weight{part}" for part in NF4_PARTS))
COMPRESSED = (".weight", ".weight_packed", ".weight_scale", ".weight_shape",
              ".weight_zero_point", ".weight_g_idx", ".weight_global_scale")  # fmt: skip
WORDS = (".qweight", ".qzeros", ".scales", ".g_idx")
ACTIVATIONS = (".input_scale", ".output_scale", ".input_global_scale", ".input_zero_point",
               ".k_scale", ".v_scale")  # fmt: skip
FORMATS: dict[str, tuple[Format, ...]] = {
    "fp8": (Format(".weight_scale_inv", fp8.with_inverse, (".weight", ".weight_scale_inv")),),
    "fbgemm_fp8": (
        Format(".weight_scale", fp8.with_scale, (".weight", ".weight_scale"),
               unused=(".input_scale_ub",)),
    ),
    "compressed-tensors": (
        Format(".weight_scale", compressed.read, COMPRESSED, unused=ACTIVATIONS),
    ),
    "gptq": (Format(".qweight", gptq.read, WORDS),),
    "awq": (Format(".qweight", awq.read, WORDS),),
    "bitsandbytes": (
        Format(".SCB", bnb.int8, (".weight", ".SCB"), unused=(".weight_format",)),
        *(
            Format(f"{bnb.STATE}{kind}", bnb.four_bits, (*FOUR_BITS, f"{bnb.STATE}{kind}"))
            for kind in ("nf4", "fp4")
        ),
    ),
    "bitnet": (Format(".weight_scale", bitnet.read, (".weight", ".weight_scale")),),
    "mxfp4": (Format("_blocks", mxfp4.experts, ("_blocks", "_scales"), gives=""),),
}  # fmt: skip


def stored_tensors(raw: Raw, settings: Mapping[str, Any] | None) -> dict[str, StoredTensor]:
    """The weights of a checkpoint by name; refuse, by name, what has no rule.

    ``settings`` is the ``quantization_config`` of the model, if it has one.
    """
    found: dict[str, StoredTensor] = {}
    used: set[str] = set()
    for form in _formats(settings):
        for owner, parts in _packed(raw, form):
            found[owner + form.gives] = form.make(owner, parts, settings or {})
            used |= {owner + end for end in (*form.parts, *form.unused)}
    for name, tensor in raw.items():
        if name not in used:
            found[name] = _float(tensor, settings)
    return found


def _packed(raw: Raw, form: Format) -> Iterator[tuple[str, dict[str, RawTensor]]]:
    for name in raw:
        if name.endswith(form.mark):
            owner = name.removesuffix(form.mark)
            yield owner, {end: raw[owner + end] for end in form.parts if owner + end in raw}


def _formats(settings: Mapping[str, Any] | None) -> tuple[Format, ...]:
    if settings is None:
        return ()
    method = method_of(settings)
    if method == "compressed-tensors":
        compressed.check(settings)
    if method not in FORMATS:
        raise LadderError(
            f"quantization_config.quant_method = {method} has no rule (known: "
            f"{', '.join(sorted(FORMATS))}); give an unquantized checkpoint"
        )
    return FORMATS[method]


def method_of(settings: Mapping[str, Any]) -> str:
    """The name of the method that a ``quantization_config`` is of."""
    return str(settings.get("quant_method", "none")).lower()


def _float(tensor: RawTensor, settings: Mapping[str, Any] | None) -> StoredTensor:
    """A tensor of its own, which is read as floats; other dtypes need a rule."""
    if tensor.dtype in FLOATS:
        return plain(tensor)
    known = f"the rules of {method_of(settings)} do not say" if settings else "nothing says"
    problem = f"stored as {tensor.dtype}, and {known} what that means; give floats"
    return replace(plain(tensor), problem=problem)
