"""One schema: values and their texts, the command line and the Python API agree."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ladder
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.schema import Described, described, options_of, plain_options, result_key
from ladder.options.signature import accepted, options_in
from ladder.passes.infra.patterns import Rule

COMMANDS: dict[str, tuple[Callable[..., Any], dict[str, Described]]] = {
    "compile": (ladder.compile, options_in((CompileOptions, PlanOptions), ("pareto",))),
    "plan": (ladder.plan, options_in((PlanOptions,))),
    "quantize": (ladder.export_onnx, options_in((QuantizeOptions, PlanOptions), NOT_FOR_FILES)),
}
RULES = (Rule("lm_head", DType.parse("int8:row")), Rule("*.down", DType.parse("nf4:g64")))


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("type", "q4_0", DType.parse("int4:g32:fp16")),
        ("type", DType.parse("int8:row"), DType.parse("int8:row")),
        ("keep", "lm_head", ("lm_head",)),
        ("keep", ["a", "b"], ("a", "b")),
        ("rules", {"lm_head": "int8:row", "*.down": "nf4:g64"}, RULES),
        ("rules", ("lm_head=int8:row", RULES[1]), RULES),
        ("dims", "tokens:4/batch:1", ("tokens:4", "batch:1")),
        ("dims", {"tokens": 4}, ("tokens=4",)),
        ("context", "64", 64),
        ("calib", "text.txt", Path("text.txt")),
        ("calib", "", None),
    ],
)
def test_values_and_texts(name: str, given: Any, wanted: Any) -> None:
    assert getattr(options_of(CompileOptions, {name: given}), name) == wanted


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("types", "int2:g64,int8:row", ("int2:g64", "int8:row")),
        ("bpw", 3.5, "3.5"),
        ("size", 60e6, "60000000.0B"),
        ("latency", 0.006, "0.006s"),
        ("latency", "6ms", "6ms"),
        ("overhead", 1, "1s"),
        ("prefer", {"memory": 1, "latency": 2}, "memory=1,latency=2"),
        ("verify", "false", False),
        ("workers", 2, "2"),
    ],
)
def test_values_and_texts_of_a_plan(name: str, given: Any, wanted: Any) -> None:
    found = getattr(options_of(PlanOptions, {name: given}), name)
    assert (tuple(map(str, found)) if name == "types" else found) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"typ": "int4:g32"}, "unknown option 'typ'; valid options are: activation, calib"),
        ({"type": "int9:row"}, "unknown type 'int9:row'"),
        ({"type": 4}, "unknown type '4'"),
        ({"type": None}, "--type None: give a type, for example int4:g128"),
        ({"rules": "lm_head"}, "--rule 'lm_head': write PATTERN=TYPE"),
        ({"context": "many"}, "--context 'many': give a whole number"),
        ({"context": 1.5}, "--context 1.5: give a whole number"),
        ({"context": True}, "--context True: give a whole number"),
        ({"context": 0}, "--context 0: give a positive number"),
        ({"tokens": 1}, "--tokens 1: give 2 or more"),
        ({"calib": 7}, "--calib 7: give a path"),
        ({"rounding": ["mse"]}, "--rounding .'mse'.: give a text"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LadderError, match=message):
        options_of(CompileOptions, options)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_signature_have_every_option(command: str, cli: Callable[..., Any]) -> None:
    function, options = COMMANDS[command]
    text = re.sub(r"[\s│]+", " ", cli(command, "--help").out)
    keywords = inspect.signature(function).parameters
    for name, about in options.items():
        flag = about.flags[0].partition("/")[0]  # of --x/--no-x, each has its own column
        assert flag in text, f"{flag} is not in the help of {command}"
        if keywords[name].kind is inspect.Parameter.KEYWORD_ONLY:
            assert keywords[name].default == about.default
            assert keywords[name].annotation == accepted(about)
        assert f"{name} ({accepted(about)}, default" in (inspect.getdoc(function) or "")


def test_every_option_has_a_sentence_of_help() -> None:
    for kind in (CompileOptions, QuantizeOptions, PlanOptions):
        for about in described(kind).values():
            assert about.option.help.endswith("."), about.name
            assert about.option.help[0].isupper() or about.option.help[:3] in ("qdq", "acc", "PAT")


def test_what_a_result_depends_on() -> None:
    """A key has the values of options, but not names of files or how a plan is measured."""
    one = options_of(CompileOptions, {"calib": "a.txt", "plan": "p.toml"})
    assert result_key(one) == result_key(CompileOptions())
    assert result_key(options_of(CompileOptions, {"chunk": 8})) != result_key(CompileOptions())


def test_options_as_json() -> None:
    found = plain_options(options_of(CompileOptions, {"rules": RULES, "calib": "a.txt"}))
    assert found["rules"] == ["lm_head=int8:row", "*.down=nf4:g64"]
    assert found["type"] == "int4:g128" and found["calib"] == "a.txt" and found["plan"] is None


def test_old_names_still_work(cli: Callable[..., Any]) -> None:
    assert options_of(PlanOptions, {"bpw": "4", "rest": "3ms"}).overhead == "3ms"
    assert "--rest" in cli("plan", "--help").out
