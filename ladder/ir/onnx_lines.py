"""Lines of ONNX text for the functions of the dialect."""

from __future__ import annotations


def shape(name: str, *sizes: int) -> str:
    """A constant list of integers."""
    return f"{name} = Constant <value_ints=[{', '.join(map(str, sizes))}]> ()"


def whole_number(name: str, value: int) -> list[str]:
    """An int32 scalar."""
    return [f"{name}64 = Constant <value_int={value}> ()", f"{name} = Cast <to=6> ({name}64)"]
