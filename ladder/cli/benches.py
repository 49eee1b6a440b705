"""``ladder bench``: a kernel, every type, Ladder beside its peers, or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ladder.cli import options as o
from ladder.cli.show import mega, out, print_json, print_table, progress
from ladder.errors import LadderError

ARTIFACT = "artifact"
SHAPE = "1x4096x4096"


class _ArtifactUnlessNamed(TyperGroup):
    """``ladder bench DIR`` means ``ladder bench artifact DIR``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        named = self.get_command(ctx, args[0]) is not None
        return super().resolve_command(ctx, args if named else [ARTIFACT, *args])


bench_app = typer.Typer(
    cls=_ArtifactUnlessNamed,
    no_args_is_help=True,
    help="Time a kernel, alone or beside other engines, or an artifact: ladder bench DIR.",
)


@bench_app.command(ARTIFACT)
def artifact(
    folder: Annotated[Path, typer.Argument(help="Artifact folder.")],
    tokens: Annotated[int, typer.Option(help="Context to fill before decoding is timed.")] = 256,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Decode and prefill of a compiled language model."""
    from ladder.runtime.bench import bench_artifact

    o.set_threads(threads)
    result = bench_artifact(folder, tokens)
    if json:
        print_json(result)
        return
    rows = [[k, f"{1e3 * v:.3f} ms"] for k, v in result["breakdown"].items()]
    print_table("Where a decoded token's time goes", ["kernel", "time"], rows)
    for key in ("decode_tokens_per_s", "prefill_tokens_per_s", "low_bit_share"):
        out.print(f"{key}: {result[key]:.4g}")
    out.print(f"peak memory: {mega(result['peak_rss_bytes'])}")


@bench_app.command("kernel")
def kernel(
    type: o.Type = "int4:g128",
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help=f"MxNxK: tokens, out features, in features; default {SHAPE}. With "
            "--peers: several, with commas or repeated."
        ),
    ] = None,
    all_types: Annotated[
        bool, typer.Option("--all-types", help="Every type, at M = 1, 32 and 128.")
    ] = False,
    against: Annotated[
        str, typer.Option(help="With --all-types: tvm, its default pipeline without Ladder.")
    ] = "",
    save_costs: Annotated[
        Path | None, typer.Option(help="With --all-types: write a cost table of every scheme.")
    ] = None,
    activation: Annotated[
        str,
        typer.Option(
            "--activation", "--activations", help="int8, int6:token, int8:tensor, ... or table8."
        ),
    ] = "int8",
    scheme: Annotated[str, typer.Option(help="auto, or one of the schemes.")] = "auto",
    outliers: Annotated[
        float, typer.Option(help="Part of K: time the muxed product beside the plain one.")
    ] = 0.0,
    mux: Annotated[
        str, typer.Option(help="With --outliers: how they are written; digits6, muxq2, ...")
    ] = "digits6",
    target: o.Target = "native",
    peers: Annotated[
        str,
        typer.Option(help="onnxruntime,openvino,torch,llama-cpp or all: measure them beside."),
    ] = "",
    types: Annotated[
        str,
        typer.Option(help="With --peers: Ladder's types, with commas; peers show the same bits."),
    ] = "",
    rounds: Annotated[int, typer.Option(help="With --peers: turns that each product gets.")] = 5,
    resume: Annotated[
        Path | None, typer.Option(help="With --peers: save here as it goes, and go on from it.")
    ] = None,
    performance_page: Annotated[
        Path | None,
        typer.Option(help="With --peers: the page to write the tables to; measures its shapes."),
    ] = None,
    threads: Annotated[
        str, typer.Option(help="Threads; 0: all cores. With --peers: several, for example 1,2.")
    ] = "0",
    json: o.Json = False,
) -> None:
    """Time a product, its weights rotated through memory: alone, every type, or beside peers."""
    shapes = [part for text in shape or [] for part in text.split(",")]
    if peers:
        _beside_peers(peers, shapes, types, rounds, threads, resume, performance_page, json)
        return
    for name, value in (
        ("types", types),
        ("resume", resume),
        ("performance-page", performance_page),
    ):
        if value:
            raise LadderError(f"--{name} goes with --peers; add for example --peers all")
    if len(shapes) > 1:
        raise LadderError("several --shape go with --peers; give one, or add --peers all")
    o.set_threads(_whole(threads))
    one = shapes[0] if shapes else SHAPE
    if outliers:
        _muxed_product(type, one, activation, scheme, target, outliers, mux, json)
    elif all_types:
        _every_type(one, activation, target, against, save_costs, json)
    else:
        _one_product(type, one, activation, scheme, target, json)


def _whole(text: str) -> int:
    if not text.strip().isdigit():
        raise LadderError(f"--threads '{text}': give a positive number, or 0 for all cores")
    return int(text)


def _beside_peers(
    peers: str,
    shapes: list[str],
    types: str,
    rounds: int,
    threads: str,
    resume: Path | None,
    page: Path | None,
    json: bool,
) -> None:
    from ladder.peers import peers_of
    from ladder.peers.harness import Settings
    from ladder.peers.page import check_page, write_page
    from ladder.peers.run import PAGE_SHAPES, PAGE_THREADS, compare
    from ladder.peers.table import COLUMNS, legend, tables
    from ladder.runtime.session import threads as cores
    from ladder.timing.product import parse_shape

    if rounds < 1:
        raise LadderError(f"--rounds {rounds}: give 1 or more")
    names, counts = peers_of(peers), [_whole(text) or cores() for text in threads.split(",")]
    wanted = [parse_shape(text) for text in shapes]
    if page is not None:
        check_page(page)
        wanted, counts = wanted or [*PAGE_SHAPES], [*PAGE_THREADS] if threads == "0" else counts
    own = [text.strip() for text in types.split(",") if text.strip()]
    with progress():
        settings = Settings(rounds=rounds)
        document = compare(names, wanted or [parse_shape(SHAPE)], counts, own, settings, resume)
    if page is not None:
        write_page(page, document, f"ladder bench kernel --peers {peers} --performance-page {page}")
    if json:
        print_json(document)
        return
    for title, rows in tables(document):
        print_table(title, COLUMNS, rows)
    for line in (*legend(document), *(f"note: {note}" for note in document["notes"])):
        out.print(line)


def _muxed_product(
    type: str, shape: str, activation: str, scheme: str, target: str, outliers: float, mux: str,
    json: bool,
) -> None:  # fmt: skip
    from ladder.timing.muxed import bench_mux

    row = bench_mux(type, shape, activation, scheme, target, outliers, mux)
    if json:
        print_json(row)
        return
    print_table("", ["what", "value"], [[key, value] for key, value in row.items()])


def _one_product(
    type: str, shape: str, activation: str, scheme: str, target: str, json: bool
) -> None:
    from ladder.timing.product import bench_kernel

    row = bench_kernel(type, shape, activation, scheme, target)
    if json:
        print_json(row)
        return
    print_table("", ["what", "value"], [[key, value] for key, value in row.items()])


def _every_type(
    shape: str, activation: str, target: str, against: str, save: Path | None, json: bool
) -> None:
    """Every type, beside TVM where asked for; ``save`` takes the times as a cost table."""
    from ladder.timing.all_types import bench_types
    from ladder.timing.cost_tables import measured_on, write_table
    from ladder.timing.product import parse_shape

    _, n, k = parse_shape(shape)
    with progress():
        rows = bench_types(n, k, activation, target, against, every_scheme=save is not None)
    if save is not None:
        write_table(save, rows, measured_on(n, k, rows[0]["threads"]))
    if json:
        print_json(rows)
        return
    for m in dict.fromkeys(row["m"] for row in rows):
        picked = [row for row in rows if row["m"] == m]
        head = ["type", "bits per weight", "scheme", "ms", "spread"]
        print_table(
            f"M={m}, {n}x{k}, {activation}, {rows[0]['threads']} threads, {rows[0]['isa']}",
            [*head, "TVM ms", "times TVM"] if against else head,
            [_cells(row) for row in picked],
        )


def _cells(row: dict[str, Any]) -> list[Any]:
    cells = [
        row["type"],
        row["bits_per_weight"],
        row["scheme"],
        f"{1e3 * row['median_s']:.3f}",
        f"{1e3 * row['spread_s']:.3f}",
    ]
    if "tvm_s" in row:
        cells += [f"{1e3 * row['tvm_s']:.1f}", f"{row['times_tvm']:.1f}"]
    return cells
