"""Every reader of Ladder: valid inputs to change, and what is done with a changed one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutations import mutate_bytes, mutate_json, mutate_text

Mutate = Callable[[Random, bytes], bytes]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """A reader of a file: it gets a path with ``name``, and its ``seeds`` are valid files.

    ``cases`` of them are run in the tests.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    read: Read
    cases: int


def text_reader(parse: Callable[[str], object]) -> Read:
    """A reader of texts, such as the value of an option."""
    return lambda path: parse(path.read_text(encoding="utf-8", errors="replace"))


# Texts.

TYPES = (
    *("int4:g128", "uint4:g32:zp", "int2:g64:fp16", "int8:row", "ternary:tensor", "nf4:g64"),
    *("fp4_e2m1:g32:e8m0", "uint3:g64:zpf", "mxfp4", "nvfp4", "fp8_e4m3:row:bf16", "fp32"),
)
PIPELINES = (
    "clean-up,fuse-operators,move-weight-to-rhs",
    "allocate-uniform{type=int4:g128,keep=a|b,rules=x=int8:row},round-weights{method=mse}",
    "bind-shapes{dims=tokens:1/context:96},lower-types{activation=int8,scheme=auto}",
    "allocate-bits{types=int4:g32|int8:row,bpw=4.5},stack-products,mux-outliers{method=digits}",
)


def encoded(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def read_type(text: str) -> None:
    """A type that is read means what its own text means, and has a size."""
    from ladder.ir.dtype import DType

    dtype = DType.parse(text)
    assert DType.parse(str(dtype)) == dtype
    assert dtype.stored_bits(64, 96) > 0


def read_pipeline(text: str) -> None:
    from ladder.passes.infra.registry import parse_pipeline

    passes = parse_pipeline(text)
    assert parse_pipeline(",".join(map(str, passes))) == passes


def read_options(text: str) -> None:
    """Lines ``NAME=VALUE``, as they come from a command line."""
    from ladder.errors import LadderError
    from ladder.options.requests import CompileOptions, PlanOptions
    from ladder.options.split import split

    lines = (line.partition("=") for line in text.split("\n"))
    options, plan = split({name: value for name, _, value in lines}, CompileOptions)
    for given in (options, plan):
        try:
            if given is not None:
                given.check()
        except LadderError:
            assert isinstance(given, CompileOptions | PlanOptions)
            raise


OPTIONS = (
    "type=int4:g32\nrules=lm_head=int8:row\nkeep=a*\nactivation=int8\ncontext=96\ndims=M=3",
    "bpw=3.5\ntypes=int4:g32,int8:row\nwindows=4\ntokens=64\nrounding=rtn\nrefine=1",
    "size=180MB\nlatency=20ms\nprefer=memory=1,latency=1,accuracy=2\noverhead=3ms\nmax_kl=0.1",
    "size=1e3kb\nminimise=latency\nlong_tokens=256\nworkers=2\noutliers=digits\nscheme=lut",
)


UNITS = ("shape 1x64x96", "shapes 64x64,1x1", "size 96MiB", "age 12h", "time 3ms")


def read_shapes(text: str) -> None:
    from ladder.support.units import parse_age, parse_size, parse_time
    from ladder.timing.product import parse_shape
    from ladder.timing.product_costs import parse_shapes

    kind, _, value = text.partition(" ")
    parsers: dict[str, Callable[[str], object]] = {
        "shape": parse_shape,
        "shapes": lambda texts: parse_shapes(texts.split(",")),
        "size": partial(parse_size, "--size"),
        "age": partial(parse_age, "--older"),
        "time": partial(parse_time, "--latency"),
    }
    parsers.get(kind, parse_shape)(value)


# Tables.

PLAN = """# A plan of Ladder
format = 1

[model]
origin = "model.onnx"
digest = "0123456789abcdef"

[asked]
budget = "bpw <= 4"
types = ["int4:g32", "int8:row"]

[predicted]
metric = "kl"
loss = 0.25

[uniform."int4:g32"]
loss = 0.5
bytes = 1000

[sites]
"fc1" = "int4:g32"  # mlp.up: cheap
"fc2" = "int8:row"
"lm_head" = "fp32"
"""
CONFIG = """[types.mine]
codebook = [-1.0, -0.5, 0.0, 0.5, 1.0]

[types.other]
codebook = [0, 1, nan, 3]
"""
STATE_KEY = ("model-digest", "text-digest", 4, 128, "mse")


def read_plan_file(path: Path) -> None:
    """What is read can be written and read again."""
    from ladder.pipeline.plan_file import plan_text, read_plan

    plan = read_plan(path)
    again = path.with_name("again.toml")
    try:
        again.write_text(plan_text(plan), encoding="utf-8")
        assert read_plan(again).sites == plan.sites
    finally:
        again.unlink(missing_ok=True)


def read_config(path: Path) -> None:
    from ladder.ir.element import ELEMENTS
    from ladder.options.user_types import load_config

    before = dict(ELEMENTS)
    try:
        for name in load_config(path):
            read_type(f"{name}:g64")
    finally:
        ELEMENTS.clear()
        ELEMENTS.update(before)


def state_seeds() -> list[bytes]:
    from ladder.sensitivity.state import Key, _checked

    lines = [{"group": f"g{i}", "type": "int4:g32", "scores": {"kl": 0.5 * i}} for i in range(3)]
    sound = [json.dumps(_checked(line)) for line in lines]
    plain = [json.dumps(line) for line in lines]
    header = json.dumps(vars(Key(*STATE_KEY)))
    return ["\n".join([header, *rest, ""]).encode() for rest in (sound, plain)]


def read_state(path: Path) -> None:
    """The scores are numbers by name, whatever the file holds."""
    from ladder.sensitivity.state import Key, State

    content = path.read_bytes()
    try:
        state = State(path, Key(*STATE_KEY))
    finally:
        path.write_bytes(content)
    for task, scores in state.scores.items():
        assert isinstance(task.group, str) and isinstance(task.type, str)
        assert all(np.isfinite(value) for value in scores.values())


def mutate_state(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    if lines[place] and random.random() < 0.6:
        lines[place] = mutate_json(random, lines[place])
        return b"\n".join(lines)
    return mutate_text(random, content)


def costs_seeds() -> list[bytes]:
    times = {"int4:g32": {"64x64": 1e-6, "96x64": 2e-6}, "int8:row": {"64x64": 3e-6}}
    table = {"format": 1, "target": "x86-64", "activation": "int8", "chunk": 64}
    return [json.dumps({**table, "decode": times, "prefill": times, "source": "here"}).encode()]


def read_costs_file(path: Path) -> None:
    """Times are positive and finite."""
    from ladder.timing.product_costs import Setting, read_costs

    costs = read_costs(path, Setting("x86-64", "int8", 64))
    for table in (costs.decode, costs.prefill):
        for row in table.values():
            assert all(np.isfinite(seconds) and seconds > 0 for seconds in row.values())


def sensitivity_seeds() -> list[bytes]:
    scores = {"fc1": {"int4:g32": {"kl": 0.1}}, "fc2": {"int4:g32": {"kl": 0.2}}}
    fact = {"metric": "kl", "scores": scores, "text": "t", "tokens": 64}
    return [json.dumps(fact).encode(), json.dumps({"Sensitivity": fact}).encode()]


def read_sensitivity_file(path: Path) -> None:
    from ladder.passes.measure_sensitivity import read_sensitivity

    fact = read_sensitivity(path)
    for row in fact.scores.values():
        for scores in row.values():
            assert np.isfinite(scores[fact.metric])


def read_entry(path: Path) -> None:
    """Records of the cache: damage is no error of the user."""
    from ladder.support.entry_record import Damaged, read_record

    try:
        rows = read_record(path.parent)
    except Damaged:
        return
    assert all(isinstance(row.size, int) for row in rows.values())


REQUESTS = (
    '{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], '
    '"stream": true, "stream_options": {"include_usage": true}, "seed": 3, "tools": []}',
    '{"prompt": ["a"], "max_tokens": 5, "temperature": 0.5, "top_k": 4, "stop": ["b"], "n": 1}',
    '{"prompt": [1, 2, 3], "min_p": 0.1, "logit_bias": {}, "echo": false, "user": "me"}',
)


def read_request(path: Path) -> None:
    """Requests of ``ladder serve``: what is read can be given to the model."""
    from ladder.serving.protocol import read_request

    content = path.read_bytes()
    asked = read_request(content, b'"messages"' in content)
    assert all(text for text in asked.stop) and (asked.limit is None or asked.limit > 0)
    for text in (asked.prompt, *(message["content"] for message in asked.messages)):
        assert isinstance(text, tuple) or text.encode() is not None


# Arrays and texts.


def npz_seeds() -> list[bytes]:
    found = []
    kinds = ("float32", "int64", "bool", "float16", "uint8")
    arrays: dict[str, Any] = {kind: np.arange(12).reshape(3, 4).astype(kind) for kind in kinds}
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        found.append(file.getvalue())
    return found


def mutate_npz(random: Random, content: bytes) -> bytes:
    """Half of the time one of its arrays, in an archive that is whole."""
    if random.random() < 0.5:
        return mutate_bytes(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    head, rest = members[name][:10], members[name][10:]
    changed = mutate_text(random, rest[:118]) if random.random() < 0.7 else rest[:118]
    head = head if random.random() < 0.9 else mutate_bytes(random, head)
    members[name] = head + changed[:118].ljust(118) + rest[118:]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in members.items():
            archive.writestr(random.choice([key, key, key, "../" + key, "x"]), value)
    return out.getvalue()


def read_arrays(path: Path) -> None:
    """Arrays of numbers come out."""
    from ladder.support.arrays import read_npz

    for array in read_npz(path, "hint").values():
        assert array.dtype.kind in "biuf"


def read_calibration(path: Path) -> None:
    from ladder.calibration.text_windows import calibration_text

    assert calibration_text(path).strip()


JSONL = '{"text": "one"}\n{"text": "two", "id": 3}\n\n{"text": "three\\u00e9"}\n'


def all_readers() -> dict[str, Reader]:
    """The readers by name, those of models included."""
    from fuzz.model_readers import ROWS

    found: list[tuple[Any, ...]] = [
        ("type", encoded(*TYPES), mutate_text, text_reader(read_type), 2500),
        ("pipeline", encoded(*PIPELINES), mutate_text, text_reader(read_pipeline), 1500),
        ("options", encoded(*OPTIONS), mutate_text, text_reader(read_options), 1500),
        ("units", encoded(*UNITS), mutate_text, text_reader(read_shapes), 1000),
        ("plan.toml", encoded(PLAN), mutate_text, read_plan_file, 1500),
        ("ladder.toml", encoded(CONFIG), mutate_text, read_config, 1500),
        ("state.jsonl", state_seeds, mutate_state, read_state, 1500),
        ("costs.json", costs_seeds, mutate_json, read_costs_file, 1500),
        ("sensitivity.json", sensitivity_seeds, mutate_json, read_sensitivity_file, 1000),
        ("entry.json", encoded('{"files": {"a": {"size": 3, "sha256": "00"}}}'), mutate_json,
         read_entry, 500),
        ("request.json", encoded(*REQUESTS), mutate_json, read_request, 1000),
        ("arrays.npz", npz_seeds, mutate_npz, read_arrays, 2000),
        ("text.jsonl", encoded(JSONL), mutate_text, read_calibration, 700),
        ("text.txt", encoded("some plain text\nwith lines\n"), mutate_text, read_calibration, 300),
    ]  # fmt: skip
    return {row[0]: Reader(*row) for row in (*found, *ROWS)}
