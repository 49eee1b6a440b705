"""What a folder says about talking to its model: template, special tokens, advised sampling."""

from __future__ import annotations

from typing import Any

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def default_template(template: Any) -> str | None:
    """The chat template; of several by name, the default one."""
    found = template.get("default") if isinstance(template, dict) else template
    return found if isinstance(found, str) else None


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """The texts of special tokens by the names that templates use, such as ``bos_token``."""
    return {
        name: str(text)
        for name, text in tokenizer.special_tokens_map.items()
        if isinstance(text, str)
    }


def advised_sampling(config: Any) -> dict[str, float]:
    """What ``generation_config.json`` says of sampling; nothing where it advises none."""
    if not getattr(config, "do_sample", None):
        return {}
    found = {name: getattr(config, name, None) for name in SAMPLING}
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}
