"""``ladder eval``: an artifact or a float model on a text file."""

from __future__ import annotations

from pathlib import Path

from ladder.calibration.texts import encode, read_text
from ladder.errors import LadderError
from ladder.evaluation.evaluate import Predictor, Score, evaluate
from ladder.frontend.types import Source
from ladder.pipeline.sources import known_model, load_source, read_trace
from ladder.runtime.artifact import MANIFEST, Artifact

LARGEST_WINDOW = 1024


def score_file(
    model: Path,
    text: Path,
    limit: int,
    window: int,
    compare: bool,
    key: Path | None = None,
    trust: bool = False,
) -> Score:
    """Score ``model`` on the first ``limit`` tokens of ``text``.

    ``key`` is the public key of an artifact's signature. ``trust`` allows to run Python code of a
    model's folder.
    """
    content = read_text(text)
    if (model / MANIFEST).exists():
        artifact = Artifact.load(model, key)
        return _score_artifact(artifact, content, limit, window, compare)
    source = load_source(model, trust)
    predictor = float_model(source, window or LARGEST_WINDOW)
    return evaluate(predictor, encode(source, content)[:limit], predictor.context)


def _score_artifact(
    artifact: Artifact, content: str, limit: int, window: int, compare: bool
) -> Score:
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.session import Session

    if artifact.language_model is None:
        raise LadderError(f"{artifact.folder}: not a language model, so it has no perplexity")
    model = LanguageModel(Session(artifact))
    size = min(window or LARGEST_WINDOW, model.context)
    tokens = model.encode(content)[:limit]
    notes, reference = [], None
    if compare:
        found = known_model(artifact.manifest["origin"]["digest"])
        if found is None:
            notes.append(
                "no KL: the float model is not in the cache; run 'ladder eval MODEL' first"
            )
        else:
            reference = float_model(read_trace(found), size)
    score = evaluate(model, tokens, size, reference)
    score.notes += notes
    return score


def float_model(source: Source, context: int) -> Predictor:
    """The float model under ONNX Runtime."""
    from ladder.reference import ReferenceLanguageModel

    if not source.is_language_model:
        raise LadderError(f"{source.origin}: not a language model, so it has no perplexity")
    return ReferenceLanguageModel(source.model, source.states, context)
