"""The commands, one function each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli.planning import plan_command
from ladder.cli.show import err, mega, out, print_json, print_table, progress
from ladder.errors import LadderError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compile low-bit models for edge processors. Every command takes --json and --help.",
)
cache_app = typer.Typer(no_args_is_help=True, help="The content-addressed cache.")
app.add_typer(cache_app, name="cache")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TypeOption = Annotated[
    str, typer.Option("--type", help="Weight type, e.g. int4:g128, int8:row, uint4:g32:zp.")
]
Rounding = Annotated[
    str, typer.Option(help="rtn: nearest; mse: search the scale with the least error.")
]
Keep = Annotated[
    list[str] | None, typer.Option(help="Site name pattern that stays float; repeatable.")
]
Rule = Annotated[
    list[str] | None,
    typer.Option("--rule", help="PATTERN=TYPE for sites or roles, e.g. lm_head=int8:row; repeat."),
]
Threads = Annotated[int, typer.Option(help="Threads; 0: all cores this process may use.")]
Target = Annotated[str, typer.Option(help="See 'ladder targets'. native: this CPU.")]


@app.callback()
def common(
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with types of your own; default: ./ladder.toml if it exists."),
    ] = None,
) -> None:
    """Read the types of a configuration file before any command."""
    from ladder.config import load_config

    load_config(config)


@app.command("compile")
def compile_command(
    model: Annotated[Path, typer.Argument(help="ONNX or GGUF file, or a Hugging Face folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Artifact folder to write.")],
    target: Target = "native",
    type: TypeOption = "int4:g128",
    rounding: Rounding = "mse",
    activation: Annotated[
        str,
        typer.Option(help="int8, int4, int2, table8 (half the look-ups), fp32 (slow, unrounded)."),
    ] = "int8",
    context: Annotated[int, typer.Option(help="Tokens a language model's cache holds.")] = 2048,
    chunk: Annotated[int, typer.Option(help="Tokens per prefill call.")] = 64,
    dim: Annotated[
        list[str] | None, typer.Option(help="NAME=SIZE of an open input dimension; repeatable.")
    ] = None,
    keep: Keep = None,
    rule: Rule = None,
    plan: Annotated[Path | None, typer.Option(help="Plan file of 'ladder plan'.")] = None,
    json: Json = False,
) -> None:
    """Compile a model into an artifact folder for 'ladder run'."""
    from ladder.driver import compile_model
    from ladder.wish import Wish

    dims = "/".join(d.replace("=", ":") for d in dim or [])
    wish = Wish(
        type=type, target=target, rounding=rounding, activation=activation,
        context=context, chunk=chunk, dims=dims, keep=tuple(keep or ()),
        rules=tuple(rule or ()), plan=str(plan or ""),
    )  # fmt: skip
    with progress():
        report = compile_model(model, output, wish).report
    if json:
        print_json(report)
        return
    _print_report(report)
    feed = "--prompt TEXT" if report["language_model"] else "--input FILE.npz"
    out.print(f"Wrote {output} in {report['seconds']} s. Next: ladder run {output} {feed}")


def _print_report(report: dict[str, Any]) -> None:
    by_type: dict[tuple[str, str, str], list[int]] = {}
    for site in report["sites"]:
        row = by_type.setdefault((site["role"], site["type"], site.get("form", "")), [0, 0])
        row[0] += 1
        row[1] += site["n"] * site["k"]
    shown = 3 if any(form for _, _, form in by_type) else 2  # an ONNX file has forms
    rows = [[*key[:shown], count, f"{n / 1e6:.2f} M"] for key, (count, n) in by_type.items()]
    print_table("Sites", [*("role", "type", "form")[:shown], "sites", "weights"], rows)
    for row in report.get("kernels", []):
        what = f"{row['level']} {row['function']}: {row['sites']} x {row['type']}"
        out.print(f"{what}: {row['scheme']} with {row['activation']} activations: {row['reason']}")
    for row in report["left_alone"]:
        out.print(f"left alone: {row['name']}: {row['reason']}")
    for note in report["notes"]:
        out.print(f"note: {note}")
    out.print(f"{report['bits_per_weight']} bits per weight, {mega(report['size_bytes'])} on disk.")
    out.print(f"Assumed: {', '.join(report['assumed'])}." if report["assumed"] else "")


app.command("plan")(plan_command)


@app.command()
def quantize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx")],
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx")],
    type: TypeOption = "int4:g32",
    rounding: Rounding = "mse",
    format: Annotated[
        str, typer.Option(help="qdq: standard operators; nbits: MatMulNBits.")
    ] = "qdq",
    keep: Keep = None,
    rule: Rule = None,
    json: Json = False,
) -> None:
    """ONNX in, ONNX out: low-bit weights for any ONNX Runtime."""
    from ladder.export.quantize import quantize_onnx

    with progress():
        report = quantize_onnx(
            source, target, type, rounding, format, tuple(keep or ()), rules=tuple(rule or ())
        )
    if json:
        print_json(report)
        return
    _print_report({"assumed": [], **report})
    out.print(
        f"Wrote {target}: {mega(report['size_bytes_before'])} -> {mega(report['size_bytes'])}."
    )


@app.command()
def run(
    artifact: Path,
    prompt: Annotated[str | None, typer.Option(help="Text to continue.")] = None,
    input: Annotated[Path | None, typer.Option(help="NPZ file with the inputs by name.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="NPZ file for the outputs.")] = None,
    tokens: Annotated[int, typer.Option(help="New tokens at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 1.0,
    seed: int = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Run an artifact: stream text after a prompt, or feed arrays."""
    from ladder.cli.running import run_arrays, run_prompt

    _set_threads(threads)
    if tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise LadderError("--tokens is at least 1, --temperature 0 or more, --top-p in (0, 1]")
    if (prompt is None) == (input is None):
        raise LadderError("give either --prompt TEXT or --input FILE.npz")
    if prompt is not None:
        run_prompt(artifact, prompt, tokens, temperature, top_p, seed, json)
    elif input is not None:
        run_arrays(artifact, input, output, json)


@app.command("eval")
def eval_command(
    model: Annotated[Path, typer.Argument(help="Artifact folder, or a model as for 'compile'.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text file.")],
    tokens: Annotated[int, typer.Option(help="Tokens to score at most.")] = 8192,
    window: Annotated[
        int, typer.Option(help="Tokens per window; 0: the context, 1024 at most.")
    ] = 0,
    reference: Annotated[bool, typer.Option(help="Compare with the float model.")] = True,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Perplexity of a text, and the KL divergence from the original float model."""
    from ladder.scoring import score_file

    _set_threads(threads)
    if tokens < 2 or window < 0:
        raise LadderError("--tokens is at least 2 and --window 0 or more")
    with progress():
        score = score_file(model, text, tokens, window, reference)
    if json:
        print_json(score.json())
        return
    print_table("", ["measure", "value"], [[k, v] for k, v in score.json().items() if k != "notes"])
    for note in score.notes:
        err.print(note)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="'kernel', or an artifact folder.")],
    type: TypeOption = "int4:g128",
    shape: Annotated[
        str, typer.Option(help="MxNxK: tokens, out features, in features.")
    ] = "1x4096x4096",
    all_types: Annotated[
        bool, typer.Option("--all-types", help="Kernel: every type, at M = 1, 32 and 128.")
    ] = False,
    against: Annotated[
        str, typer.Option(help="With --all-types: tvm, its default pipeline without Ladder.")
    ] = "",
    save_costs: Annotated[
        Path | None, typer.Option(help="With --all-types: write a cost table of every scheme.")
    ] = None,
    activation: Annotated[str, typer.Option(help="int8, int4, int2 or table8.")] = "int8",
    scheme: Annotated[str, typer.Option(help="auto, lut or dot.")] = "auto",
    target: Target = "native",
    tokens: Annotated[int, typer.Option(help="Context to fill before decoding is timed.")] = 256,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Time a kernel (weights rotated through memory), or an artifact's decode and prefill."""
    from ladder.cli import benches

    _set_threads(threads)
    if what != "kernel":
        benches.artifact(Path(what), tokens, json)
    elif all_types:
        benches.all_types(shape, activation, target, against, save_costs, json)
    else:
        benches.kernel(type, shape, activation, scheme, target, json)


@app.command()
def report(
    artifact: Path,
    output: Annotated[
        Path | None, typer.Option("-o", help="HTML file; default: DIR/report.html.")
    ] = None,
    json: Json = False,
) -> None:
    """One HTML page: what each layer got, why, and what it costs."""
    from ladder.report_page import write_page
    from ladder.runtime.artifact import read_manifest

    manifest = read_manifest(artifact)
    if json:
        print_json(manifest["report"])
        return
    target = output or artifact / "report.html"
    write_page(manifest, target)
    out.print(f"Wrote {target}")


@app.command()
def opt(
    model: Path,
    pipeline: Annotated[
        str, typer.Option("-p", "--passes", help="pass{option=value,...},pass,...")
    ],
    dump_ir: Annotated[
        Path | None, typer.Option(help="Folder for the IR before and after each pass.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="Write the resulting IR as an ONNX file.")
    ] = None,
    json: Json = False,
) -> None:
    """Run passes over a model and look at the IR between them."""
    from ladder.cli.opt import run_opt

    with progress():
        timings, text = run_opt(model, pipeline, dump_ir, output)
    if json:
        print_json([{"pass": name, "seconds": seconds} for name, seconds in timings])
    elif dump_ir is None and output is None:
        out.out(text, end="")
    else:
        print_table("", ["pass", "seconds"], timings)


@app.command()
def types(
    target: Target = "native",
    activation: Annotated[str, typer.Option(help="As for 'compile'.")] = "int8",
    json: Json = False,
) -> None:
    """The weight types, what they cost, and how a target computes them."""
    from ladder.cli.listing import type_columns, type_rows

    rows = type_rows(target, activation)
    _list(rows if json else type_columns(rows), json)


@app.command()
def targets(json: Json = False) -> None:
    """The targets, and which of them this machine is."""
    from ladder.cli.listing import target_rows

    _list(target_rows(), json)


@app.command()
def passes(json: Json = False) -> None:
    """The passes, their options, what they need and give."""
    from ladder.cli.listing import pass_rows

    _list(pass_rows(), json)


@cache_app.command("show")
def cache_show(json: Json = False) -> None:
    """Where the cache is and what it takes."""
    from ladder import cache

    where, size = cache.cache_folder(), cache.size_bytes()
    if json:
        print_json({"folder": str(where), "size_bytes": size})
    else:
        out.print(f"{where}: {mega(size)}")


@cache_app.command("clear")
def cache_clear(json: Json = False) -> None:
    """Remove everything in the cache."""
    from ladder import cache

    freed = cache.clear()
    if json:
        print_json({"freed_bytes": freed})
    else:
        out.print(f"Freed {mega(freed)}.")


def _list(rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(r.values()) for r in rows])


def _set_threads(threads: int) -> None:
    """TVM reads it when it is first loaded."""
    if threads < 0:
        raise LadderError(f"--threads {threads}: give a positive number, or 0 for all cores")
    if threads:
        os.environ["TVM_NUM_THREADS"] = str(threads)
