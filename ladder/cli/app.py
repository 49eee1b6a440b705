"""The commands, one function each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import MainOptions
from ladder.cli import options as o
from ladder.cli.about import print_versions
from ladder.cli.compiling import compile_command, quantize_command
from ladder.cli.devices import bench_app
from ladder.cli.hardware import hardware_app
from ladder.cli.kernels import kernels_app
from ladder.cli.parameters import takes
from ladder.cli.planning import plan_command
from ladder.cli.projecting import project_command
from ladder.cli.reporting import compare_command, report_command
from ladder.cli.serving import serve_command
from ladder.cli.show import err, mega, out, print_json, print_table, progress
from ladder.cli.tuning import tune_app
from ladder.cli.words import App
from ladder.errors import LadderError
from ladder.options.running import RunOptions
from ladder.options.schema import options_of
from ladder.support.cache_space import Freed

app = App(
    "Compile low-bit models for edge processors. Every command takes --json and --help.",
    add_completion=True,
)
cache_app = App("The content-addressed cache.")
app.add_typer(cache_app, name="cache")
app.add_typer(bench_app, name="bench")
app.add_typer(tune_app, name="tune")
app.add_typer(kernels_app, name="kernels")
app.add_typer(hardware_app, name="hardware")


@app.callback()
def common(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file that defines your own types (default: ./ladder.toml if it exists)."
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="LADDER_DEBUG", help="Show tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_versions, help="Print versions and exit."
        ),
    ] = False,
) -> None:
    """Read the user's types from the configuration file before any command runs."""
    ctx.ensure_object(MainOptions).debug = debug
    from ladder.options.user_types import load_config

    load_config(config)


app.command("compile")(compile_command)
app.command("plan")(plan_command)
app.command("quantize")(quantize_command)
app.command("project")(project_command)
app.command("serve")(serve_command)


@app.command()
@takes(RunOptions)
def run(
    artifact: o.Artifact,
    asked: dict[str, Any],
    prompt: Annotated[str | None, typer.Option(help="Text to continue.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a message, for the chat template.")
    ] = False,
    input: Annotated[
        Path | None, typer.Option(help="NPZ file with one array for each input, by name.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="NPZ file for the outputs.")
    ] = None,
    verify_key: o.VerifyKey = None,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Run an artifact: stream text after a prompt, or feed arrays."""
    from ladder.cli.running import run_arrays, run_prompt, sampling_of
    from ladder.runtime.artifact import Artifact

    o.set_threads(threads)
    options = options_of(RunOptions, asked)
    sampling_of(options, {})
    if chat and prompt is None:
        raise LadderError("--chat needs --prompt TEXT; 'ladder chat' reads messages as you type")
    if (prompt is None) == (input is None):
        raise LadderError("give either --prompt TEXT or --input FILE.npz")
    if prompt is not None:
        run_prompt(Artifact.load(artifact, verify_key), prompt, chat, options, json)
    elif input is not None:
        run_arrays(Artifact.load(artifact, verify_key), input, output, json)


@app.command("chat")
@takes(RunOptions)
def chat_command(
    artifact: o.Artifact,
    asked: dict[str, Any],
    system: Annotated[str, typer.Option(help="A message to the model before the first one.")] = "",
    verify_key: o.VerifyKey = None,
    threads: o.Threads = 0,
) -> None:
    """Talk to a language model, by its own chat template."""
    from ladder.cli.chatting import talk
    from ladder.runtime.artifact import Artifact

    o.set_threads(threads)
    options = options_of(RunOptions, asked)
    talk(Artifact.load(artifact, verify_key), system, options)


@app.command("eval")
def eval_command(
    model: Annotated[Path, typer.Argument(help="Artifact folder, or a model as for 'compile'.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text file.")],
    tokens: Annotated[int, typer.Option(help="Score at most this many tokens.")] = 8192,
    window: Annotated[
        int, typer.Option(help="Tokens per window (0: the model's context, at most 1024).")
    ] = 0,
    reference: Annotated[bool, typer.Option(help="Compare with the float model.")] = True,
    verify_key: o.VerifyKey = None,
    trust_remote_code: o.TrustRemoteCode = False,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Measure the perplexity of a text and the KL divergence from the original float model."""
    from ladder.evaluation.measured import EVAL, keep
    from ladder.evaluation.scoring import score_file
    from ladder.runtime.artifact import MANIFEST
    from ladder.support.quality import quality

    o.set_threads(threads)
    if tokens < 2 or window < 0:
        raise LadderError("give --tokens of 2 or more and --window of 0 or more")
    with progress():
        score = score_file(
            model, text, tokens, window, reference, key=verify_key, trust=trust_remote_code
        )
    if (model / MANIFEST).exists():
        err.print(keep(model, EVAL, {**score.json(), "text": text.name}))
    if json:
        print_json(score.json())
        return
    print_table("", ["measure", "value"], [[k, v] for k, v in score.json().items() if k != "notes"])
    if score.kl_mean is not None:
        out.print(f"Compared with the float model it is {quality(score.kl_mean)}.")
    for note in score.notes:
        err.print(note)


@app.command()
def sign(
    artifact: o.Artifact,
    key: Annotated[Path, typer.Option(help="Private key (PEM, Ed25519) to sign with.")],
    json: o.Json = False,
) -> None:
    """Sign an artifact, for 'ladder run --verify-key'."""
    from ladder.runtime.artifact import sign_artifact

    path = sign_artifact(artifact, key)
    if json:
        print_json({"file": str(path)})
    else:
        out.print(f"Wrote {path}")


app.command("report")(report_command)
app.command("compare")(compare_command)


@app.command()
def opt(
    model: o.Model,
    pipeline: Annotated[
        str, typer.Option("-p", "--passes", help="pass{option=value,...},pass,...")
    ],
    dump_ir: Annotated[
        Path | None, typer.Option(help="Folder for the IR before and after each pass.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the resulting IR as an ONNX file.")
    ] = None,
    trust_remote_code: o.TrustRemoteCode = False,
    json: o.Json = False,
) -> None:
    """Run passes over a model and show the IR between them."""
    from ladder.cli.opt import run_opt

    with progress():
        timings, text = run_opt(model, pipeline, dump_ir, output, trust_remote_code)
    if json:
        print_json([{"pass": name, "seconds": seconds} for name, seconds in timings])
    elif dump_ir is None and output is None:
        out.out(text, end="")
    else:
        print_table("", ["pass", "seconds"], timings)


@app.command()
def types(
    target: o.Target = "native",
    activation: Annotated[str, typer.Option(help="As for 'compile'.")] = "int8",
    json: o.Json = False,
) -> None:
    """List the weight types, their bits per weight, and how a target computes them."""
    from ladder.cli.listing import type_columns, type_rows

    rows = type_rows(target, activation)
    _list(rows if json else type_columns(rows), json)


@app.command()
def targets(json: o.Json = False) -> None:
    """List the targets, and say which of them this machine can run."""
    from ladder.cli.targets import target_rows

    _list(target_rows(), json)


@app.command()
def passes(json: o.Json = False) -> None:
    """List the passes with their options, and the facts that they need and give."""
    from ladder.cli.listing import pass_rows

    _list(pass_rows(), json)


@cache_app.command("show")
def cache_show(json: o.Json = False) -> None:
    """Show where the cache is and how large it is."""
    from ladder.support import cache, cache_space

    where, size = cache.cache_folder(), cache_space.size_bytes()
    if json:
        print_json({"folder": str(where), "size_bytes": size, "bound_bytes": cache_space.bound()})
    else:
        out.print(f"{where}: {mega(size)} of at most {mega(cache_space.bound())}")


@cache_app.command("clear")
def cache_clear(json: o.Json = False) -> None:
    """Remove every entry of the cache."""
    from ladder.support import cache_space

    _show_freed(cache_space.clear(), json)


@cache_app.command("prune")
def cache_prune(
    older: Annotated[
        str, typer.Option(help="Remove what was last used so long ago, e.g. 30d or 12h.")
    ] = "",
    max_size: Annotated[
        str, typer.Option(help="Remove what was used least recently until so much is left: 5GB.")
    ] = "",
    json: o.Json = False,
) -> None:
    """Remove entries of the cache by age or size."""
    from ladder.support import cache_space
    from ladder.support.units import parse_age, parse_size

    if not older and not max_size:
        raise LadderError("give --older, --max-size or both; 'ladder cache clear' removes all")
    age = parse_age("--older", older) if older else None
    most = parse_size("--max-size", max_size) if max_size else None
    _show_freed(cache_space.prune(age, most), json)


def _show_freed(freed: Freed, json: bool) -> None:
    if json:
        print_json(vars(freed))
    else:
        out.print(f"Freed {mega(freed.freed_bytes)}.")
    freed.check()


def _list(rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(r.values()) for r in rows])
