"""Loads torch modules: torch.export traces them, torch.onnx translates them into the IR."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch

from ladder.errors import LadderError, one_line
from ladder.frontend.types import Source, states_of
from ladder.ir.site import COMPUTED_KEY

TRACE_OPSET = 24  # Attention, RotaryEmbedding, RMSNormalization and TensorScatter as operators
OPSET = 25  # the same operators, also for 2-bit types


def trace(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    dynamic_shapes: Any = None,
    input_names: list[str] | None = None,
    output_names: list[str] | None = None,
) -> ir.Model:
    """Trace ``module`` on example inputs. Nothing is folded, so weights keep their names."""
    with _quiet():
        try:
            program = torch.onnx.export(
                module.eval(),
                args,
                dynamo=True,
                opset_version=TRACE_OPSET,
                dynamic_shapes=dynamic_shapes,
                input_names=input_names,
                output_names=output_names,
                optimize=False,
                verbose=False,
            )
        except Exception as error:
            raise _untraceable(module, error) from error
    assert program is not None
    program.model.graph.opset_imports[""] = OPSET
    model: ir.Model = program.model
    _note_computed(model, module)
    return model


def _note_computed(model: ir.Model, module: torch.nn.Module) -> None:
    """Mark the tables that the module computes itself, such as positions as sines: no weights."""
    stored = module.state_dict()
    for name, _ in module.named_buffers():
        if name not in stored and name in model.graph.initializers:
            model.graph.initializers[name].metadata_props[COMPUTED_KEY] = "true"


def load_module(module: torch.nn.Module, args: tuple[Any, ...], **options: Any) -> Source:
    """Load a torch module with example inputs."""
    model = trace(module, args, **options)
    return Source(model, type(module).__name__, _digest(module), states=states_of(model))


def _untraceable(module: torch.nn.Module, error: Exception) -> LadderError:
    """What lies at the bottom: the exporter wraps it in advice on how to report an issue."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
        if isinstance(cause, LadderError):
            return cause
    return LadderError(f"torch could not trace {_name_of(module)}: {one_line(cause)}")


def _name_of(module: torch.nn.Module) -> str:
    """Of the model that a wrapper of ours holds, else its own."""
    return type(getattr(module, "inner", module)).__name__


def _digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence messages of the exporter that do not concern the user."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch logs whole graphs where it fails
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
