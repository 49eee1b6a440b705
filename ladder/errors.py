"""The errors that a user may see."""

from __future__ import annotations

import importlib.metadata
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 200  # characters of another package's message
# Packages that read users' files, or compile what they describe: what they raise is about these.
READERS = frozenset(
    {
        *("gguf", "huggingface_hub", "jinja2", "json", "ml_dtypes", "numpy", "onnx", "onnx_ir"),
        *("onnxruntime", "onnxscript", "safetensors", "tokenizers", "tomllib", "torch"),
        *("transformers", "tvm", "tvm_ffi", "zipfile", "zlib"),
    }
)
# Distributions by the name of their module, where it is another.
DISTRIBUTIONS = {"tvm": "apache-tvm", "distributed": "dask"}
EXTRA = re.compile(r"""([\w-]+).*extra == ["']([\w-]+)["']""")
EXHAUSTED = {MemoryError: "there is not enough memory", RecursionError: "it is nested too deeply"}


class LadderError(Exception):
    """Bad input: the message is one line that says what, where and what to do.

    Texts of the user that it quotes may have several lines; they are joined.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).splitlines()))


class NothingToQuantize(LadderError):
    """The graph has no weight that may change type, or is low-bit already."""


def as_refusal(error: Exception) -> Exception:
    """What another package raises about a user's file, as a refusal; else the error itself."""
    if isinstance(error, LadderError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _refusal_of_missing(error.name.partition(".")[0], error)
    package = _package_of(error)
    if package is None:
        return error
    what = EXHAUSTED.get(type(error)) or one_line(_cause_of(error))
    refusal = LadderError(f"{package} cannot take this input: {what}")
    refusal.__cause__ = error
    return refusal


def _refusal_of_missing(module: str, error: ModuleNotFoundError) -> Exception:
    """What to install for a package that is not there; the error itself where it is our own."""
    if module == "ladder":
        return error
    name = DISTRIBUTIONS.get(module, module.replace("_", "-"))
    refusal = LadderError(
        f"this needs the package {name}, which is not installed: pip install {_brings(name)}"
    )
    refusal.__cause__ = error
    return refusal


def _brings(name: str) -> str:
    """What to install to get a package: Ladder, one of its extras, or the package by itself."""
    try:
        required = importlib.metadata.requires("ladder") or []
    except importlib.metadata.PackageNotFoundError:  # only ladder-runtime, or a bare source tree
        return "ladder (ladder-runtime only runs artifacts)"
    # The first extra that has it is the usual one.
    extras = {found[1]: found[2] for text in reversed(required) if (found := EXTRA.match(text))}
    return f"'ladder[{extras[name]}]'" if name in extras else name


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what another package raises about a user's file into a ``LadderError``."""
    try:
        yield
    except LadderError:
        raise
    except Exception as error:
        refusal = as_refusal(error)
        if refusal is error:
            raise
        raise refusal from error


def _package_of(error: Exception) -> str | None:
    """The package that raised it: of the innermost call, or else of its type."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = _package_at(frames[-1]) if frames else ""
    packages = [inner, type(error).__module__.partition(".")[0]]
    found = next((name for name in packages if name in READERS), None)
    return found or ("Python" if type(error) in EXHAUSTED else None)


def _package_at(frame: FrameType) -> str:
    """The package of a call; one that TVM passed through its own code is known by its file only."""
    name = frame.f_globals.get("__name__")
    if name is not None:
        return str(name).partition(".")[0]
    _, _, path = frame.f_code.co_filename.rpartition("site-packages/")
    return path.partition("/")[0]


def _cause_of(error: BaseException) -> BaseException:
    """What lies at the bottom: exporters wrap it in advice on how to report an issue."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """The first line of another package's error, without colours; its type where it is empty."""
    lines = COLOUR.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:LONGEST]}" if lines else type(error).__name__
