"""``ladder bench``: time a kernel, every type, Ladder next to its peers, or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli import options as o
from ladder.cli.parameters import takes
from ladder.cli.show import err, mega, out, print_json, print_table, progress
from ladder.cli.words import App, Group
from ladder.options.benchmarks import SHAPE, BenchOptions
from ladder.options.schema import options_of

ARTIFACT = "artifact"


class _ArtifactUnlessNamed(Group):
    """``ladder bench DIR`` means ``ladder bench artifact DIR``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        named = self.get_command(ctx, args[0]) is not None
        return super().resolve_command(ctx, args if named else [ARTIFACT, *args])


bench_app = App(
    "Time a kernel, alone or next to other engines, or an artifact: ladder bench DIR.",
    group=_ArtifactUnlessNamed,
)


@bench_app.command(ARTIFACT)
def artifact(
    folder: Annotated[Path, typer.Argument(help="Artifact folder.")],
    tokens: Annotated[int, typer.Option(help="Context to fill before decoding is timed.")] = 256,
    verify_key: o.VerifyKey = None,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Time decoding and prefill of a compiled language model."""
    from ladder.evaluation.measured import BENCH, keep
    from ladder.runtime.bench import bench_artifact

    o.set_threads(threads)
    result = bench_artifact(folder, tokens, verify_key)
    err.print(keep(folder, BENCH, result))
    if json:
        print_json(result)
        return
    rows = [[k, f"{1e3 * v:.3f} ms"] for k, v in result["breakdown"].items()]
    print_table("Where a decoded token's time goes", ["kernel", "time"], rows)
    for key in ("decode_tokens_per_s", "prefill_tokens_per_s", "low_bit_share"):
        out.print(f"{key}: {result[key]:.4g}")
    out.print(f"peak memory: {mega(result['peak_rss_bytes'])}")


@bench_app.command("kernel")
@takes(BenchOptions)
def kernel(asked: dict[str, Any], json: o.Json = False) -> None:
    """Time a matrix product with weights that come from memory, not from the processor's caches."""
    options = options_of(BenchOptions, asked)
    options.check()
    if options.peers:
        _with_peers(options, json)
        return
    o.set_threads(options.thread_counts[0])
    if options.all_types:
        _every_type(options, json)
    else:
        _one_product(options, json)


def _with_peers(options: BenchOptions, json: bool) -> None:
    from ladder.peers import peers_of
    from ladder.peers.harness import Settings
    from ladder.peers.page import check_page, write_page
    from ladder.peers.run import PAGE_SHAPES, PAGE_THREADS, compare
    from ladder.peers.table import COLUMNS, legend, tables
    from ladder.runtime.session import threads as cores
    from ladder.timing.product import parse_shape

    names, page = peers_of(options.peers), options.performance_page
    counts = [count or cores() for count in options.thread_counts]
    shapes = [parse_shape(text) for text in options.shapes]
    if page is not None:
        check_page(page)
        shapes = shapes or [*PAGE_SHAPES]
        counts = [*PAGE_THREADS] if options.threads == "0" else counts
    with progress():
        document = compare(
            names,
            shapes or [parse_shape(SHAPE)],
            counts,
            [text.strip() for text in options.types],
            Settings(rounds=options.rounds),
            options.resume,
        )
    if page is not None:
        command = f"ladder bench kernel --peers {options.peers} --performance-page {page}"
        write_page(page, document, command)
    if json:
        print_json(document)
        return
    for title, rows in tables(document):
        print_table(title, COLUMNS, rows)
    for line in (*legend(document), *(f"note: {note}" for note in document["notes"])):
        out.print(line)


def _one_product(options: BenchOptions, json: bool) -> None:
    """Time one product, plain or muxed."""
    shape = (options.shapes or [SHAPE])[0]
    asked = (str(options.type), shape, options.activation, options.scheme, options.target)
    if options.outliers:
        from ladder.timing.muxed import bench_mux

        row = bench_mux(*asked, options.outliers, options.mux)
    else:
        from ladder.timing.product import bench_kernel

        row = bench_kernel(*asked)
    if json:
        print_json(row)
        return
    print_table("", ["what", "value"], [[key, value] for key, value in row.items()])


def _every_type(options: BenchOptions, json: bool) -> None:
    """Time every type, on request also with TVM alone; on request save a cost table."""
    from ladder.timing.all_types import bench_types
    from ladder.timing.cost_tables import measured_on, write_table
    from ladder.timing.product import parse_shape

    _, n, k = parse_shape((options.shapes or [SHAPE])[0])
    activation, against, save = options.activation, options.against, options.save_costs
    with progress():
        rows = bench_types(n, k, activation, options.target, against, save is not None)
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
