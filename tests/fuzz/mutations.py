"""Seeded changes of bytes, texts, JSON values and protocol buffers."""

from __future__ import annotations

import copy
import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

DEEP = 5000  # levels of nested brackets: beyond what a recursive parser can follow
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, float("nan"), float("inf")),
    *(127, 255, 1 << 15, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, (1 << 64) - 1, 10**400),
    *("", " ", "0", "-1", "NaN", "é", "\ud800", "\0", "../x", "/etc/passwd", "a" * 300, "$(x)"),
    *([], {}, [[]], [0], {"": {}}, ["a", 1, None]),
)
ODD_TEXTS = (
    *("", " ", "\n", "\0", "\t", "'", '"', "\\", ",", ":", "=", "{", "}", "[", "]", "#", "%s", "²"),
    *("0", "-0", "1e999", "nan", "inf", "9" * 30, "9" * 5000, "é", "\u202e", "٣", "\ufeff", "g0"),
    *("[" * DEEP, "{" * DEEP, '{"a":' * DEEP, "../" * 9, "a" * 5000, "true", "null"),
)
INTEGERS = (0, 1, 2, 7, 127, 128, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LARGE = (*INTEGERS, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def mutate_bytes(random: Random, content: bytes) -> bytes:
    """One to four changes, each in a random place."""
    for _ in range(random.randint(1, 4)):
        content = random.choice(BYTE_CHANGES)(random, content)
    return content


def _flip(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 8) if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _remove(random: Random, content: bytes) -> bytes:
    start, size = _piece(random, content)
    return content[:start] + content[start + size :]


def _repeat(random: Random, content: bytes) -> bytes:
    start, size = _piece(random, content)
    return content[: start + size] + content[start:]


def _insert(random: Random, content: bytes) -> bytes:
    start, _ = _piece(random, content)
    return content[:start] + random.randbytes(random.randint(1, 16)) + content[start:]


def _integer(random: Random, content: bytes) -> bytes:
    """Four or eight bytes become a number at an edge."""
    start, _ = _piece(random, content)
    wide = random.random() < 0.5
    new = struct.pack("<Q", random.choice(LARGE)) if wide else _word(random.choice(INTEGERS))
    return content[:start] + new + content[start + len(new) :]


def _word(value: int) -> bytes:
    return struct.pack("<I", value)


def _piece(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, random.randint(0, min(64, len(content) - start))


BYTE_CHANGES: Sequence[Callable[[Random, bytes], bytes]] = (
    *(_flip, _flip, _cut, _remove, _repeat, _insert, _integer, _integer),
)


def mutate_text(random: Random, content: bytes) -> bytes:
    """Changes of words, numbers and lines; sometimes of bytes."""
    if random.random() < 0.2:
        return mutate_bytes(random, content)
    text = content.decode(errors="replace")
    for _ in range(random.randint(1, 3)):
        text = random.choice(TEXT_CHANGES)(random, text)
    return text.encode(errors="replace")


def _replace_word(random: Random, text: str) -> str:
    found = list(re.finditer(r"[\w.+-]+", text))
    if not found:
        return text + random.choice(ODD_TEXTS)
    match = random.choice(found)
    new = random.choice(found)[0] if random.random() < 0.3 else random.choice(ODD_TEXTS)
    return text[: match.start()] + new + text[match.end() :]


def _insert_text(random: Random, text: str) -> str:
    start = random.randrange(len(text) + 1)
    return text[:start] + random.choice(ODD_TEXTS) + text[start:]


def _change_lines(random: Random, text: str) -> str:
    lines = text.split("\n")
    place = random.randrange(len(lines))
    if random.random() < 0.5:
        del lines[place]
    else:
        lines.insert(random.randrange(len(lines) + 1), lines[place])
    return "\n".join(lines)


def _remove_text(random: Random, text: str) -> str:
    start = random.randrange(len(text) + 1)
    return text[:start] + text[start + random.randint(1, 8) :]


TEXT_CHANGES = (_replace_word, _replace_word, _insert_text, _change_lines, _remove_text)


def mutate_json(random: Random, content: bytes) -> bytes:
    """Changes of values and keys; sometimes of the text."""
    if random.random() < 0.2:
        return mutate_text(random, content)
    value = json.loads(content)
    for _ in range(random.randint(1, 3)):
        value = mutate_value(random, value)
    return json.dumps(value).encode()


def mutate_value(random: Random, value: Any) -> Any:
    """``value`` with something in it changed, removed, repeated or put elsewhere."""
    places = list(_places(value))
    if not places:
        return _odd(random)
    holder, key = random.choice(places)
    action = random.random()
    if action < 0.2:
        del holder[key]
    elif action < 0.35:
        other, where = random.choice(places)
        if where in other if isinstance(other, dict) else where < len(other):
            holder[key] = json.loads(json.dumps(other[where]))
    elif action < 0.5 and isinstance(holder, dict):
        holder[random.choice(["", "x", key + "x", "../x"])] = holder.pop(key)
    elif action < 0.7 and isinstance(holder[key], int):
        holder[key] += random.choice([-1, 1, 64, -64, 1 << 32])
    else:
        holder[key] = _odd(random)
    return value


def _odd(random: Random) -> Any:
    """A copy: later changes must not reach the table, or a list could come to hold itself."""
    return copy.deepcopy(random.choice(ODD_VALUES))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (list or object, index or key) below ``value``."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        holder = stack.pop()
        if isinstance(holder, dict | list):
            keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            stack += [holder[key] for key in keys]
    return found


def mutate_message(random: Random, message: Any) -> None:
    """Change one to three fields of a protocol buffer, in it or in what it holds."""
    for _ in range(random.randint(1, 3)):
        held = list(_messages(message))
        _mutate_field(random, random.choice(held))


def _messages(message: Any) -> list[Any]:
    found = [message]
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            values = value if _repeated(descriptor) else [value]
            found += [inner for one in values for inner in _messages(one)]
    return found


def _repeated(descriptor: Any) -> bool:
    return bool(descriptor.is_repeated)


def _mutate_field(random: Random, message: Any) -> None:
    fields = message.ListFields()
    descriptor = (
        random.choice(fields)[0]
        if fields and random.random() < 0.8
        else random.choice(message.DESCRIPTOR.fields)
    )
    name = descriptor.name
    if random.random() < 0.2:
        message.ClearField(name)
    elif _repeated(descriptor):
        _mutate_repeated(random, getattr(message, name), descriptor)
    elif descriptor.type == descriptor.TYPE_MESSAGE:
        getattr(message, name).SetInParent()
    else:
        setattr(message, name, _scalar(random, descriptor, getattr(message, name)))


def _mutate_repeated(random: Random, values: Any, descriptor: Any) -> None:
    if descriptor.type == descriptor.TYPE_MESSAGE:
        if values and random.random() < 0.5:
            del values[random.randrange(len(values))]
        elif values:
            values.add().CopyFrom(random.choice(values))
        else:
            values.add()
        return
    old = random.choice(values) if values else None
    if values and random.random() < 0.6:
        values[random.randrange(len(values))] = _scalar(random, descriptor, old)
    else:
        values.append(_scalar(random, descriptor, old))


def _scalar(random: Random, descriptor: Any, old: Any) -> Any:
    """Another value of a field's type, often near the old one."""
    kind, near = descriptor.cpp_type, random.choice([-1, 1, 2])
    if kind == descriptor.CPPTYPE_ENUM:
        return random.choice(list(descriptor.enum_type.values_by_number))
    if kind == descriptor.CPPTYPE_INT64:
        return random.choice([(old or 0) + near, 0, -1, 3, 1 << 20, 1 << 40, (1 << 63) - 1])
    if kind == descriptor.CPPTYPE_INT32:
        return random.choice([0, 1, 7, 11, 16, 22, 23, 99, -1, (1 << 31) - 1])
    if kind in (descriptor.CPPTYPE_UINT64, descriptor.CPPTYPE_UINT32):
        return random.choice([0, 1, (1 << 31) - 1])
    if kind in (descriptor.CPPTYPE_FLOAT, descriptor.CPPTYPE_DOUBLE):
        return random.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    if kind == descriptor.CPPTYPE_BOOL:
        return not old
    if descriptor.type == descriptor.TYPE_BYTES:
        return mutate_bytes(random, old or bytes(8))
    return random.choice(["", "x", "y", "../x", "a" * 300, "é", (old or "") + "x", "MatMul", "If"])
