"""Conversations: the prompt is that of transformers, and what was read is not fed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny import CHAT_TEMPLATE
from typer.testing import CliRunner

import ladder.runtime
from ladder.cli.app import app
from ladder.errors import LadderError
from ladder.runtime.chat import Conversation, render
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.sampling import Sampling

MESSAGES = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "a <b> 'c'\n"},
]
TEMPLATES = {
    "tokens": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
    "blocks": "{% for m in messages %}\n  {%- if loop.first %}\n 1\n  {% endif %}\n{% endfor %}",
    "json": "{{ messages | tojson }}",
    "break": "{% for m in messages %}{{ m.role }}{% break %}{% endfor %}",
    "prompt": "{% if add_generation_prompt %}<assistant>{% endif %}",
    "tiny": CHAT_TEMPLATE,
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_by_transformers(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    wanted, _ = render_jinja_template(
        [MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=True, bos_token="<s>"
    )
    assert render(TEMPLATES[name], MESSAGES, {"bos_token": "<s>"}) == wanted[0]


def test_refusals() -> None:
    with pytest.raises(LadderError, match="has no chat template; give a prompt"):
        render(None, MESSAGES, {})
    with pytest.raises(LadderError, match="there are no messages"):
        render(CHAT_TEMPLATE, [], {})
    with pytest.raises(LadderError, match=r"give a role .* and a content"):
        render(CHAT_TEMPLATE, [{"role": "poet", "content": "x"}], {})
    with pytest.raises(LadderError, match=r"template fails: .*Expected an expression"):
        render("{% for %}", MESSAGES, {})
    with pytest.raises(LadderError, match="template refuses the messages: only users"):
        render("{{ raise_exception('only users') }}", MESSAGES, {})
    with pytest.raises(LadderError, match=r"template fails: .*unsafe"):
        render("{{ messages.__class__.__mro__ }}", MESSAGES, {})


@pytest.fixture
def model(tiny_artifact: Path) -> LanguageModel:
    return loaded(tiny_artifact)


def loaded(artifact: Path) -> LanguageModel:
    model = ladder.runtime.load(artifact)
    assert isinstance(model, LanguageModel)
    return model


@pytest.mark.models
@pytest.mark.kernels
def test_a_conversation_feeds_only_what_is_new(
    model: LanguageModel, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []
    feed = model.feed

    def counted(tokens: Sequence[int], logits: str | None = "all") -> np.ndarray:
        fed.append(len(tokens))
        return feed(tokens, logits)

    monkeypatch.setattr(model, "feed", counted)
    chat = Conversation(model, limit=5)
    first, second = "".join(chat.say("hello")), "".join(chat.say("again"))
    assert [m["role"] for m in chat.messages] == ["user", "assistant"] * 2
    assert sum(fed) < len(model.encode_chat(chat.messages)) + 5
    other = loaded(tiny_artifact)
    assert first == other.chat(chat.messages[:1], 5)
    assert second == other.chat(chat.messages[:3], 5)


@pytest.mark.models
@pytest.mark.kernels
def test_generated_text(model: LanguageModel) -> None:
    made = model.generation("the quick brown", 12)
    text = "".join(made)
    assert made.text == text and made.prompt_tokens == 15 and made.tokens == 12
    assert made.finish == "length" and 0 < made.first_seconds < made.seconds
    model.reset()
    assert model.generate("the quick brown", 12) == text
    model.reset()
    stopped = model.generation("the quick brown", 12, stop=[text[3:5]])
    assert "".join(stopped) == text[: text.index(text[3:5])] and stopped.finish == "stop"
    model.reset()
    warm = Sampling(temperature=5.0, top_k=40, seed=1)
    assert model.generate("the quick brown", 12, warm) != text


@pytest.mark.models
@pytest.mark.kernels
def test_commands(tiny_artifact: Path) -> None:
    run = CliRunner().invoke
    asked = ["run", str(tiny_artifact), "--prompt", "hello", "--tokens", "4", "--json"]
    plain, chat = (json.loads(run(app, [*asked, *more]).stdout) for more in ([], ["--chat"]))
    assert plain["tokens"] == 4 and chat["prompt_tokens"] == len("<u>hello<a>")
    lines = "hello\n/new\nhello\n/quit\nhello\n"
    talked = run(app, ["chat", str(tiny_artifact), "--tokens", "4"], input=lines)
    assert talked.stdout == f"{chat['text']}\n" * 2
