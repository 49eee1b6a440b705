"""``ladder eval``: an artifact or a float model on a text file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladder.calibration.texts import read_text, start_of_text, tokenizer_of, without_special
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
    return _scored(predictor, tokenizer_of(source), content, limit, predictor.context, None)


def _score_artifact(
    artifact: Artifact, content: str, limit: int, window: int, compare: bool
) -> Score:
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.session import Session

    if artifact.language_model is None:
        raise LadderError(f"{artifact.folder}: not a language model, so it has no perplexity")
    model = LanguageModel(Session(artifact))
    size = min(window or LARGEST_WINDOW, model.context)
    notes, reference = [], None
    if compare:
        found = known_model(artifact.manifest["origin"]["digest"])
        if found is None:
            notes.append(
                "no KL: the float model is not in the cache; run 'ladder eval MODEL' first"
            )
        else:
            reference = float_model(read_trace(found), size)
    score = _scored(model, model.tokenizer, content, limit, size, reference)
    score.notes += notes
    return score


def _scored(
    model: Predictor,
    tokenizer: Any,
    content: str,
    limit: int,
    window: int,
    reference: Predictor | None,
) -> Score:
    """Each window begins as the tokenizer begins a text; a note says with what."""
    tokens, start = without_special(tokenizer, content)[:limit], start_of_text(tokenizer)
    score = evaluate(model, tokens, window, reference, start)
    if start:
        names = " ".join(str(tokenizer.id_to_token(token)) for token in start)
        score.notes.append(f"each window begins with {names}, as the tokenizer begins a text")
    return score


def float_model(source: Source, context: int) -> Predictor:
    """The float model under ONNX Runtime."""
    from ladder.reference import ReferenceLanguageModel

    if not source.is_language_model:
        raise LadderError(f"{source.origin}: not a language model, so it has no perplexity")
    return ReferenceLanguageModel(source.model, source.states, context)
