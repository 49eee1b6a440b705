"""The plug-in for TVM: target tags and the Relax pipeline ``ladder``, added by ``import tvm``.

TVM calls ``load`` through the entry-point group ``tvm.backends``. Nothing of Ladder's compiler is
imported until a pipeline, a pass or the ONNX frontend is used.
"""

from __future__ import annotations

import warnings
from typing import Any

SERIES = "0.27"  # the TVM whose interfaces this package is written for
PREFIX = "ladder/"
PIPELINE = "ladder"


def load() -> None:
    """Add the tags, the pipeline and the ONNX operators to TVM. Never raises."""
    try:
        import tvm

        version = str(tvm.__version__)
        if not f"{version}.".startswith(f"{SERIES}."):
            warnings.warn(
                f"Ladder's TVM plug-in is off: it is for TVM {SERIES}, this is TVM {version}",
                stacklevel=2,
            )
            return
        _add_all(tvm)
    except Exception as error:
        warnings.warn(f"Ladder's TVM plug-in is off: {error!r}", stacklevel=2)


def _add_all(tvm: Any) -> None:
    from ladder.plugin import onnx_hook, packing

    packing.register()
    if tvm._RUNTIME_ONLY:
        return
    from ladder.hardware.targets import TAGS

    for name, config in TAGS.items():
        tvm.target.register_tag(PREFIX + name, {**config, "tag": PREFIX + name}, override=True)
    if PIPELINE not in tvm.relax.pipeline.PIPELINE_MAP:
        tvm.relax.register_pipeline(PIPELINE)(pipeline)
    onnx_hook.install()


def pipeline(**options: Any) -> Any:
    """The pass for ``relax_pipeline="ladder"``; its options: ``ladder.plugin.options``."""
    from ladder.errors import refusals

    with refusals():  # where only the runtime is installed, its packages are missing
        from ladder.plugin.pipeline import ladder_pipeline

    return ladder_pipeline(**options)
