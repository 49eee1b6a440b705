"""A pass is a frozen dataclass: its fields are its options, its class gives its name."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.passes.infra.patterns import Rule


class PassError(LadderError):
    """A pass failed, or its result is not a well-formed model."""


Facts = tuple[type, ...]
SEPARATOR = "|"  # between the items of an option that takes several
READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "DType": DType.parse,
    "Rule": Rule.parse,
}


@dataclass(frozen=True)
class Pass(ABC):
    """Rewrites a model in place, or adds facts to it.

    ``needs`` and ``gives`` are the facts (see ``ladder.ir.facts``) that it reads and adds.
    """

    needs: ClassVar[Facts] = ()
    gives: ClassVar[Facts] = ()

    @abstractmethod
    def run(self, model: ir.Model) -> None:
        """Rewrite ``model``. Raise ``LadderError`` if the input is at fault."""

    @classmethod
    def pass_name(cls) -> str:
        """The class name as the command line spells it: ``RoundWeights`` -> ``round-weights``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __str__(self) -> str:
        """The pipeline text that makes this pass again."""
        changed = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                changed.append(f"{f.name.replace('_', '-')}={_text(value)}")
        return self.pass_name() + (f"{{{','.join(changed)}}}" if changed else "")


def make(cls: type[Pass], options: dict[str, str]) -> Pass:
    """Build a pass from option texts; unknown options and malformed values are refused."""
    fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise LadderError(f"pass {cls.pass_name()} has no option '{key}'; it has: {known}")
        values[fields[key].name] = _convert(cls, key, text, str(fields[key].type))
    missing = [
        key
        for key, f in fields.items()
        if f.default is dataclasses.MISSING and f.name not in values
    ]
    if missing:
        raise LadderError(
            f"pass {cls.pass_name()} needs the option '{missing[0]}': "
            f"write {cls.pass_name()}{{{missing[0]}=...}}"
        )
    return cls(**values)


def _text(value: object) -> str:
    """An option as it is written in a pipeline."""
    if isinstance(value, tuple):
        return SEPARATOR.join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(cls: type[Pass], key: str, text: str, kind: str) -> Any:
    """Convert by a field's annotation, a text: a bool, a key of READERS, or a tuple of these."""
    if kind.startswith("tuple["):
        item = kind.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_convert(cls, key, part, item) for part in text.split(SEPARATOR) if part)
    if kind == "bool":
        if text not in ("true", "false"):
            raise LadderError(f"pass {cls.pass_name()}: {key} must be true or false, not '{text}'")
        return text == "true"
    try:
        return READERS[kind](text)
    except LadderError as error:
        raise LadderError(f"pass {cls.pass_name()}: {error}") from error
    except ValueError:
        raise LadderError(
            f"pass {cls.pass_name()}: {key} must be of type {kind}, not '{text}'"
        ) from None
