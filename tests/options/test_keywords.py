"""The keywords of the Python API as type checkers see them: those of the schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

import ladder
from ladder.errors import LadderError
from ladder.options import keywords
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.schema import Described
from ladder.options.signature import accepted, options_in

CLASSES = {
    "CompileKeywords": ("ladder.compile", options_in((CompileOptions, PlanOptions), ("pareto",))),
    "PlanKeywords": ("ladder.plan", options_in((PlanOptions,))),
    "ExportKeywords": (
        "ladder.export_onnx",
        options_in((QuantizeOptions, PlanOptions), (*NOT_FOR_FILES, "type")),
    ),
}
UNSEEN = ("Source", "DType", "CompileReport", "PlanReport", "QuantizeReport")  # while it runs
HEAD = '''"""The keywords of the Python API with their types, for editors and type checkers.

Made from the schema of options: ``pytest tests/options/test_keywords.py --update-golden`` writes
this file. ``help`` has their meaning and their defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from ladder.ir.dtype import DType
    from ladder.passes.infra.patterns import Rule
'''


def text_of(name: str, function: str, options: dict[str, Described]) -> str:
    """The class of the keywords of a function."""
    lines = [f"    {name}: {accepted(about)}" for name, about in options.items()]
    title = f'class {name}(TypedDict, total=False):\n    """Keywords of ``{function}``."""\n'
    return "\n".join([title, *lines]) + "\n"


def test_the_file_is_that_of_the_schema(request: pytest.FixtureRequest) -> None:
    wanted = "\n\n".join([HEAD, *(text_of(name, *of) for name, of in CLASSES.items())])
    file = Path(str(inspect.getsourcefile(keywords)))
    if request.config.getoption("--update-golden"):
        file.write_text(wanted)
    assert file.read_text() == wanted, "run pytest tests/options/test_keywords.py --update-golden"


@pytest.mark.parametrize("name", CLASSES)
def test_a_function_takes_the_keywords_of_its_class(name: str) -> None:
    function = getattr(ladder, CLASSES[name][0].removeprefix("ladder."))
    names = {**vars(typing), **vars(keywords), **dict.fromkeys(UNSEEN, object)}
    written = typing.get_type_hints(inspect.unwrap(function), names)
    (found,) = typing.get_args(written["options"])
    assert found.__name__ == name
    parameters = inspect.signature(function).parameters
    keyword_only = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert keyword_only == set(found.__annotations__)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ladder.compile("a.onnx", "b", tokns=3), "did you mean 'tokens'"),  # type: ignore[call-arg]
        (lambda: ladder.plan("a.onnx", bwp=3), "did you mean 'bpw'"),  # type: ignore[call-arg]
        (lambda: ladder.export_onnx("a.onnx", "b.onnx", formt="qdq"), "mean 'format'"),  # type: ignore[call-arg]
        (lambda: ladder.compile("a.onnx", "b", size=[1]), "give a text"),  # type: ignore[arg-type]
    ],
)
def test_wrong_keywords(call: Callable[[], object], message: str) -> None:
    """mypy refuses them as well: an ignored error that is none is one."""
    with pytest.raises(LadderError, match=message):
        call()


def test_names_of_commands_lead_to_functions() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantize'; did you mean 'export_onnx'"):
        _ = ladder.quantize
