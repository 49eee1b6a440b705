"""Examples that the help of each command ends with."""

from __future__ import annotations

EXAMPLES = {
    "compile": (
        "ladder compile model.gguf -o artifact --type int4:g128",
        "ladder compile model.gguf -o artifact --bpw 3.5 --calib text.txt",
        "ladder compile model.onnx -o artifact --type int8:row --dim tokens=4",
    ),
    "plan": (
        "ladder plan model.gguf --bpw 3.5 --calib text.txt -o plan.toml",
        "ladder plan model.gguf --size 60MB --picture front.svg",
        "ladder plan model.gguf --dry-run",
    ),
    "quantize": (
        "ladder quantize model.onnx smaller.onnx --type int4:g32",
        "ladder quantize model.onnx smaller.onnx --bpw 5 --calib samples.npz",
    ),
    "project": ("ladder project --target raspberry-pi-5 --type int2:g64 --cores 2",),
    "run": (
        'ladder run artifact --prompt "Once upon a time" --tokens 40',
        'ladder run artifact --chat --prompt "What is the capital of France?"',
        "ladder run artifact --input input.npz -o outputs.npz",
    ),
    "chat": ('ladder chat artifact --system "Answer in one sentence."',),
    "eval": (
        "ladder eval artifact --text text.txt",
        "ladder eval model.gguf --text text.txt --tokens 2048",
    ),
    "sign": ("ladder sign artifact --key key.pem",),
    "report": (
        "ladder report artifact -o report.html",
        'ladder report artifact --prompt "The capital of France is"',
    ),
    "compare": (
        "ladder compare artifact model.gguf",
        "ladder compare small larger model.onnx -o compared.html",
    ),
    "opt": (
        "ladder opt model.onnx -p 'allocate-uniform{type=int4:g64},round-weights'",
        "ladder opt model.onnx -p clean-up --dump-ir ir",
    ),
    "types": ("ladder types --target x86-64-v3",),
    "targets": ("ladder targets",),
    "passes": ("ladder passes --json",),
    "cache show": ("ladder cache show",),
    "cache clear": ("ladder cache clear",),
    "cache prune": ("ladder cache prune --older 30d --max-size 5GB",),
    "bench artifact": ("ladder bench artifact-folder --tokens 256",),
    "bench kernel": (
        "ladder bench kernel --type int2:g128 --shape 1x4096x4096",
        "ladder bench kernel --peers all --types int4:g128 --threads 1",
    ),
    "bench device": (
        "ladder bench device model.gguf -o costs.json",
        "ladder bench device --shape 576x576 --rpc pi:9090 --target raspberry-pi-5 -o costs.json",
    ),
    "tune show": ("ladder tune show",),
    "tune reset": ("ladder tune reset",),
    "serve": (
        "ladder serve artifact",
        "ladder serve artifact --host 0.0.0.0 --port 8080 --api-key SECRET",
    ),
    "tune kernels": ("ladder tune kernels --types int4:g64",),
    "hardware list": ("ladder hardware list",),
    "hardware emit": ("ladder hardware emit ltc-m2n64k4-w1a8 -o unit.v",),
    "hardware synth": (
        "ladder hardware synth --preset ltc-m1n4k4-w1a8 --preset mac-int8-m1n4k4 --bits 1",
        "ladder hardware synth --model model.gguf -o netlists",
    ),
    "hardware sweep": ("ladder hardware sweep --m 1,2 --n 16,64 --k 3,4,5 --picture front.svg",),
    "kernels build": (
        "ladder kernels build --target native",
        "ladder kernels build --target snapdragon-x-elite-npu --type int4:g128 -o npu",
    ),
}


def examples_of(command: str) -> list[str]:
    """The examples of a command by its name as typed, without ``ladder``."""
    return list(EXAMPLES.get(command, ()))
