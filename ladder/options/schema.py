"""Options as data: the metadata of a dataclass field describes one option completely.

The command line, the signatures and docstrings of the Python API, the plug-in's options, what is
reported as assumed, what a cache key holds and the tables of the documentation are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ladder.errors import LadderError
from ladder.support.documents import is_number
from ladder.support.suggest import did_you_mean

O = TypeVar("O")  # noqa: E741  # a dataclass of options
KEY = "option"
LANGUAGE_MODELS, OTHER_MODELS = "language models", "models that are not language models"
OPTIONAL = " | None"


@dataclass(frozen=True)
class Option:
    """The description of one option, without its name, its kind and its default.

    ``flags`` are those of the command line (made from the name where there are none). ``metavar``
    names the value in help. ``least`` is the smallest number allowed. ``reported`` says that a
    default is worth reporting as assumed, ``changes_result`` that the result depends on it.
    ``splits`` is what separates several values in one text. ``panel`` groups options in help.
    ``plugin`` says that TVM's plug-in takes it as well. ``old_name`` is one that still works.
    ``envvar`` is an environment variable that gives it as well. ``only`` names the kind of model
    that it is for, where it is not for all. ``by`` says what chooses the value where none is given,
    for commands that look at the model first.

    In Python, ``unit`` is that of plain numbers (B, s), and ``accepts`` names the type of values
    that are taken as well as those of the option's kind.
    """

    help: str
    panel: str = "Options"
    flags: tuple[str, ...] = ()
    metavar: str = ""
    least: int | None = None
    reported: bool = True
    changes_result: bool = True
    splits: str = ""
    plugin: bool = False
    old_name: str = ""
    envvar: str = ""
    unit: str = ""
    accepts: str = ""
    only: str = ""
    by: str = ""


@dataclass(frozen=True)
class Described:
    """An option with its name, the text of its type, and its default."""

    name: str
    kind: str
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """The names on the command line; the first is the usual one."""
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    def applies(self, language_model: bool) -> bool:
        """Whether the option has a meaning for such a model."""
        return self.option.only in ("", LANGUAGE_MODELS if language_model else OTHER_MODELS)

    @property
    def several(self) -> bool:
        return self.kind.startswith("tuple[")


def option(default: Any, help: str, **about: Any) -> Any:
    """A dataclass field that is an option; ``about`` has the fields of ``Option``."""
    return field(default=default, metadata={KEY: Option(help, **about)})


def described(cls: type) -> dict[str, Described]:
    """The options of a dataclass by name, in order."""
    found = {}
    for f in fields(cls):
        if KEY in f.metadata:
            found[f.name] = Described(f.name, str(f.type), f.default, f.metadata[KEY])
    return found


def options_of(cls: type[O], values: Mapping[str, Any]) -> O:
    """An instance of the dataclass ``cls`` from ``values`` by name; refuse an unknown name."""
    known = described(cls)
    named = with_new_names(values, known)
    refuse_unknown(named, known)
    return cls(**named)


def with_new_names(values: Mapping[str, Any], known: Mapping[str, Described]) -> dict[str, Any]:
    """``values`` with the old names of options replaced by their current names."""
    new = {about.option.old_name: name for name, about in known.items()}
    return {new.get(name, name): value for name, value in values.items()}


def read_all(instance: Any) -> None:
    """Convert every field of a frozen dataclass of options to its declared type."""
    for name, about in described(type(instance)).items():
        value = read(about, getattr(instance, name))
        object.__setattr__(instance, name, value)
        least = about.option.least
        if least is not None and value < least:
            what = "a positive number" if least == 1 else f"{least} or more"
            raise LadderError(f"{about.flags[0]} {value}: give {what}")


def read(about: Described, value: Any) -> Any:
    """A value or its text as the option's kind. Several values may be one text, or a mapping."""
    if not about.several:
        return _read_one(about, about.kind, value)
    item = about.kind.removeprefix("tuple[").removesuffix(", ...]")
    if isinstance(value, Mapping):
        value = [f"{key}={one}" for key, one in value.items()]
    if isinstance(value, str):
        value = value.split(about.option.splits) if about.option.splits else [value]
    if not isinstance(value, Iterable):
        value = [value]
    return tuple(_read_one(about, item, one) for one in value if one != "")


def _read_one(about: Described, kind: str, value: Any) -> Any:
    if kind.endswith(OPTIONAL):
        missing = value is None or value == ""
        return None if missing else _read_one(about, kind.removesuffix(OPTIONAL), value)
    if about.option.unit and is_number(value):
        value = f"{value}{about.option.unit}"
    try:
        return READERS[kind](value)
    except (TypeError, ValueError) as error:
        raise LadderError(f"{about.flags[0]} {value!r}: {_WANTED[kind]}") from error


def _read_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[str(value).lower()]


def _read_int(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _read_text(value: Any) -> str:
    """A value as text; a mapping becomes ``name=value`` pairs separated by commas."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={one}" for key, one in value.items())
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise TypeError(value)


def _read_type(value: Any) -> Any:
    from ladder.ir.dtype import DType

    return value if isinstance(value, DType) else DType.parse(_read_text(value))


def _read_rule(value: Any) -> Any:
    from ladder.passes.infra.patterns import Rule

    if isinstance(value, Rule):
        return value
    if isinstance(value, tuple):
        value = "=".join(map(str, value))
    return Rule.parse(_read_text(value))


READERS: dict[str, Callable[[Any], Any]] = {
    "str": _read_text,
    "int": _read_int,
    "float": float,
    "bool": _read_bool,
    "Path": Path,
    "DType": _read_type,
    "Rule": _read_rule,
}
_WANTED = {
    "str": "give a text",
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "Path": "give a path",
    "DType": "give a type, for example int4:g128",
    "Rule": "write PATTERN=TYPE, for example lm_head=int8:row",
}


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first name that is not in ``known``."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        valid = ", ".join(sorted(known))
        near = did_you_mean(unknown[0], known)
        raise LadderError(f"unknown option '{unknown[0]}'; valid options are: {valid}{near}")


def refuse_inapplicable(
    options: Any, language_model: bool, model: str, leave_out: Iterable[str] = ()
) -> None:
    """Refuse an option that was changed and has no meaning for such a model."""
    for name, about in described(type(options)).items():
        value = getattr(options, name)
        given = value != read(about, about.default) and name not in leave_out
        if given and not about.applies(language_model):
            shown = ",".join(map(str, value)) if about.several else value
            raise LadderError(
                f"{about.flags[0]} {shown}: leave it out; it is for {about.option.only}, "
                f"and {model} is {'a' if language_model else 'no'} language model"
            )


def result_key(options: Any) -> tuple[tuple[str, str], ...]:
    """The options that the result depends on, with their values, for keys of the cache."""
    return tuple(
        (name, str(getattr(options, name)))
        for name, about in described(type(options)).items()
        if about.option.changes_result
    )


def plain_options(options: Any) -> dict[str, Any]:
    """The options by name, as values of JSON."""
    return {name: _plain(getattr(options, name)) for name in described(type(options))}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
