"""TVM finds in frames alone what it finds with their source files."""

from __future__ import annotations

import inspect

from tvm.script import ir as I
from tvm.script import tirx as T
from tvm.tirx.script.parser import entry

import ladder.codegen.kernels  # noqa: F401


def test_the_stack_is_that_of_inspect() -> None:
    ours, theirs = entry.inspect.stack(), inspect.stack(context=1)
    assert [f.frame for f in ours] == [f.frame for f in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.filename, mine.function) == (other.filename, other.function)
    assert ours[2].code_context == theirs[2].code_context


def test_functions_of_a_class_are_left_to_its_decorator() -> None:
    @I.ir_module
    class Module:
        @T.prim_func  # type: ignore[untyped-decorator]
        def func(a: T.Buffer((4,), "float32")):  # type: ignore[no-untyped-def, valid-type]
            a[0] = T.float32(1)

    variables = Module.get_global_vars()  # type: ignore[attr-defined]
    assert [v.name_hint for v in variables] == ["func"]


def test_functions_are_inlined() -> None:
    @T.inline
    def twice(buffer, i):  # type: ignore[no-untyped-def]
        buffer[i] = buffer[i] * T.float32(2)

    @T.prim_func  # type: ignore[untyped-decorator]
    def func(a: T.Buffer((4,), "float32")):  # type: ignore[no-untyped-def, valid-type]
        for i in range(4):
            twice(a, i)

    assert "* T.float32(2" in func.script()
