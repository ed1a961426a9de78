"""What the fast forms were chosen from, each alternative beside the one that was taken.

python benchmarks/choices.py
python benchmarks/choices.py --quick --json figures.json
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from benchmarks import choices_training
from benchmarks.common import Report, Table, machine, options, repeated, run, take_turns
from benchmarks.models import network
from charrnn import blas_threads, lines
from charrnn.compiled import Bound, CompiledModel, Lanes
from charrnn.ops import COLUMNS
from charrnn.panels import FOUR, TWELVE
from charrnn.panels import MOST_ROWS as MOST_PANEL_ROWS
from charrnn.parameters import Array
from charrnn.products import (
    ALIGNED,
    MOST_ROWS,
    ByGate,
    by_columns,
    by_gate,
    in_turn,
    multiply_by_gate,
)
from charrnn.seeding import pcg64_states
from charrnn.streams import STRIDE
from charrnn.threads import SMALL

BY_COLUMNS = "2 by columns"
NUMPYS_OWN = 16  # bytes behind the beginning of a line, where a large array of numpy's begins
LAYERS = ((128, 27), (256, 65), (512, 65))  # of an LSTM: hidden size, vocabulary


def measure(chosen: argparse.Namespace) -> Report:
    seconds = 0.01 if chosen.quick else 1.5
    layers = LAYERS[:1] if chosen.quick else LAYERS
    report = Report(machine({"torch": "no part", "onnxruntime": "no part"}))
    print(f"\n## {report.head()}\n", flush=True)
    with blas_threads(1):
        report.add(begins(layers, seconds))
        report.add(products(layers, seconds))
        report.add(in_panels(layers, seconds))
        report.add(left_over(layers, seconds))
        report.add(places(seconds, size=32 if chosen.quick else 512))
        report.add(choices_training.steps(seconds, quick=chosen.quick))
        report.add(choices_training.small_vocabularies(seconds, quick=chosen.quick))
        report.add(choices_training.between_layers(seconds, quick=chosen.quick))
        report.add(choices_training.adam(seconds, quick=chosen.quick))
        report.add(few_rows(layers, seconds))
        report.add(streams(seconds))
    return report


def begins(layers: tuple[tuple[int, int], ...], seconds: float) -> Table:
    """The same work with all arrays at the beginning of a line of the cache, and a little behind
    it, where numpy's own large arrays begin.
    """
    table = Table(
        f"Arrays that begin on a line of {lines.LINE} bytes / {NUMPYS_OWN} bytes behind: "
        "microseconds",
        [("LSTM", ""), ("a row times W", ""), (f"{MOST_ROWS} rows times W", ""), ("a sum", "")],
        note=f"The rows by {COLUMNS} columns that stand one behind the other, as many at once as "
        f"make a small product. The sum is of two arrays of all gates of {MOST_ROWS} rows.",
    )
    rng = np.random.default_rng(0)
    for size, _ in layers:
        rows = min(MOST_ROWS, SMALL // (COLUMNS * size) // 8 * 8)
        contenders = {}
        for behind in (0, NUMPYS_OWN):
            W, columns, h, out, outs, shares, gates = (
                _beginning(shape, behind)
                for shape in (
                    (size, 4 * size),
                    (4 * size // COLUMNS, size, COLUMNS),
                    (MOST_ROWS, size),
                    (4 * size,),
                    *[(4 * size // COLUMNS, MOST_ROWS, COLUMNS)] * 3,
                )
            )
            for array in (W, columns, h):
                array[...] = rng.standard_normal(array.shape)
            calls: tuple[Callable[[], object], ...] = (
                partial(h[0].dot, W, out),
                in_turn(multiply_by_gate(h, columns, outs, rows)),
                partial(np.add, shares, outs, gates),
            )
            for number, call in enumerate(calls):
                contenders[f"{number} {behind}"] = partial(repeated, call, 5)
        timings = take_turns(contenders, seconds=seconds)
        cells = [
            " / ".join(f"{1e6 * timings[f'{k} {behind}'].median:.2f}" for behind in (0, NUMPYS_OWN))
            for k in range(3)
        ]
        table.rows.append([f"{size}", *cells])
    return table


def _beginning(shape: tuple[int, ...], behind: int) -> Array:
    """Zeros, so many bytes behind the beginning of a line."""
    skipped, size = behind // 4, int(np.prod(shape))
    return lines.zeros(skipped + size, np.float32)[skipped:].reshape(shape)


def products(layers: tuple[tuple[int, int], ...], seconds: float) -> Table:
    """64 rows times an LSTM's matrix [W | V]: so many at a time, a product for each gate and one
    for V, likewise by columns as generation does it, or one product for all.
    """
    sizes = (2, 8, 32)
    forms = [
        ("each alone", 1),
        *((f"{n} by gate", n) for n in sizes),
        (f"{MOST_ROWS} by gate", MOST_ROWS),
    ]
    forms += [*((f"{n} by columns", n) for n in sizes), ("64 at once", MOST_ROWS)]
    table = Table(
        f"{MOST_ROWS} rows times a layer's matrix: microseconds a row",
        [("LSTM", ""), *((name, "") for name, _ in forms)],
        note="Stars: every row has the same bits at every place of a product. Two: and the same as "
        "all other forms with two stars. Only such forms are taken.",
    )
    for hidden_size, vocab_size in layers:
        layer = CompiledModel(network("lstm", hidden_size, vocab_size)).layers[0]
        row = np.random.default_rng(0).standard_normal(hidden_size).astype(layer.matrix.dtype)
        rows, made, contenders = np.repeat(row[None], MOST_ROWS, axis=0), {}, {}
        for name, n in forms:
            if "columns" in name:
                by_columns = ByGate(layer, MOST_ROWS, (n, n))
                outs = [by_columns.waiting, by_columns.following]
                work = by_columns.bind(rows, slice(MOST_ROWS))
            else:
                pieces = (layer.recurrent, layer.following) if "gate" in name else (layer.matrix,)
                outs = [np.empty((*m.shape[:-2], MOST_ROWS, m.shape[-1]), m.dtype) for m in pieces]
                work = partial(_multiply, rows, n, pieces, outs)
            made[name], contenders[name] = outs, partial(repeated, work, 5)
        timings = take_turns(contenders, seconds=seconds)
        columns_of = {name: _one_array(outs) for name, outs in made.items()}
        cells = []
        for name, _ in forms:
            alike = bool((columns_of[name] == columns_of[name][0]).all())
            same = bool((columns_of[name][0] == columns_of[BY_COLUMNS][0]).all())
            stars = "**" if alike and same else "*" if alike else ""
            cells.append(f"{1e6 * timings[name].median / MOST_ROWS:.2f} {stars}".strip())
        table.rows.append([f"{hidden_size}, V {vocab_size}", *cells])
    return table


def _multiply(rows: Array, n: int, pieces: Sequence[Array], outs: Sequence[Array]) -> None:
    """All rows times all pieces, so many rows at a time."""
    if n == 1:
        np.matmul(rows[:, None], pieces[0], outs[0][:, None])
        return
    for start in range(0, len(rows), n):
        for piece, out in zip(pieces, outs, strict=True):
            np.matmul(rows[start : start + n], piece, out[..., start : start + n, :])


def _one_array(outs: Sequence[Array]) -> Array:
    """Products side by side, (B, columns)."""
    flat = [np.moveaxis(out, -2, 0).reshape(out.shape[-2], -1) for out in outs]
    return np.concatenate(flat, axis=1)


def in_panels(layers: tuple[tuple[int, int], ...], seconds: float) -> Table:
    """Rows times the matrix as it is, and times the matrix in panels."""
    counts = range(TWELVE, MOST_PANEL_ROWS + 1, TWELVE)
    table = Table(
        "The matrix as it is / in panels: microseconds a row",
        [("LSTM", ""), *((f"{count} rows", "") for count in counts)],
        note="The share of the columns that have the same bits in each row, for all these numbers "
        "of rows, follows the name of a network.",
    )
    for hidden_size, vocab_size in layers:
        layer = CompiledModel(network("lstm", hidden_size, vocab_size)).layers[0]
        row = np.random.default_rng(0).standard_normal(hidden_size).astype(layer.matrix.dtype)
        cells, shares = [], []
        ways = {"as it is": layer.matrix, "in panels": layer.panels}
        seen: dict[str, list[Array]] = {way: [] for way in ways}
        for count in counts:
            rows, contenders = np.repeat(row[None], count, axis=0), {}
            for way, matrix in ways.items():
                out = np.empty((count, matrix.shape[1]), matrix.dtype)
                contenders[way] = partial(repeated, partial(np.matmul, rows, matrix, out), 5)
                seen[way].append(out)
            timings = take_turns(contenders, seconds=seconds / 2)
            cells.append(" / ".join(f"{1e6 * t.median / count:.2f}" for t in timings.values()))
        for outs in seen.values():
            every = np.concatenate(outs)
            shares.append(f"{(every == every[0]).all(axis=0).mean():.1%}")
        name = f"{hidden_size}, V {vocab_size}: {' / '.join(shares)}"
        table.rows.append([name, *cells])
    return table


def left_over(layers: tuple[tuple[int, int], ...], seconds: float) -> Table:
    """Four rows behind some twelves: each row alone, twelves filled up, and the four as such."""
    counts = range(TWELVE + FOUR, MOST_PANEL_ROWS, TWELVE)
    table = Table(
        "Four rows behind twelves: microseconds a row",
        [("LSTM", ""), *((f"{count} rows", "") for count in counts)],
        note="Each row alone / in one product, filled up to twelves / twelves and a four. In "
        "brackets: the share of columns in which a row as one of four has the same bits at each "
        "place, behind any of these numbers of twelves.",
    )
    for hidden_size, vocab_size in layers:
        layer = CompiledModel(network("lstm", hidden_size, vocab_size)).layers[0]
        row = np.random.default_rng(0).standard_normal(hidden_size).astype(layer.matrix.dtype)
        cells, fours = [], []
        for count in counts:
            rows = np.repeat(row[None], count - FOUR + TWELVE, axis=0)
            outs = [np.empty((n, layer.panels.shape[1]), rows.dtype) for n in (len(rows), count)]
            contenders = {
                way: partial(repeated, partial(np.matmul, rows[: len(out)], layer.panels, out), 5)
                for way, out in zip(("filled up", "as a four"), outs, strict=True)
            }
            contenders["alone"] = partial(repeated, partial(row.dot, layer.matrix), 5 * count)
            timings = take_turns(contenders, seconds=seconds / 2)
            fours.append(outs[1][-FOUR:])
            each = [timings["alone"].median]
            each += [timings[way].median / count for way in ("filled up", "as a four")]
            cells.append(" / ".join(f"{1e6 * seconds_a_row:.2f}" for seconds_a_row in each))
        every = np.concatenate(fours)
        share = (every == every[0]).all(axis=0).mean()
        table.rows.append([f"{hidden_size}, V {vocab_size} ({share:.1%})", *cells])
    return table


def places(seconds: float, size: int) -> Table:
    """Rows times [W | U above] of an LSTM, by gate and by columns, where the matrix's rows stand a
    power of two apart, and a little more; and by columns that are copies.
    """
    counts = (2, 4, 8, 16, 32)
    table = Table(
        f"Where a matrix stands: microseconds a product, {size} x {8 * size}",
        [("", ""), *((f"{count} rows", ".0f") for count in counts)],
        note=f"By {COLUMNS} columns, products of up to {SMALL // (COLUMNS * size)} rows are small.",
    )
    rng = np.random.default_rng(0)
    matrices = {}
    for more in (0, 2 * ALIGNED):
        matrix = np.zeros((size, 8 * size + more), np.float32)
        matrix[...] = rng.standard_normal(matrix.shape)
        matrices[matrix.strides[0]] = matrix[:, : 8 * size]
    cells: dict[str, list[float]] = {}
    for count in counts:
        rows = rng.standard_normal((count, size)).astype(np.float32)
        contenders: dict[str, Callable[[], int]] = {}
        for apart, matrix in matrices.items():
            stacks = {"gate": by_gate(matrix, 8), "columns": by_columns(matrix)[0]}
            for way, stack in stacks.items():
                contenders[f"by {way}, rows {apart:,} bytes apart"] = _product(rows, stack)
        stack = np.ascontiguousarray(by_columns(matrix)[0])
        contenders["by columns, copied one behind the other"] = _product(rows, stack)
        for name, timing in take_turns(contenders, seconds=seconds / 3).items():
            cells.setdefault(name, []).append(1e6 * timing.median)
    table.rows = [[name, *row] for name, row in cells.items()]
    return table


def _product(rows: Array, stack: Array) -> Callable[[], int]:
    out = np.empty((*stack.shape[:-2], len(rows), stack.shape[-1]), np.float32)
    return partial(repeated, partial(np.matmul, rows, stack, out), 3)


def few_rows(layers: tuple[tuple[int, int], ...], seconds: float) -> Table:
    """A step of a few sequences whose rows are multiplied alone."""
    counts = (2, 4, 6, 8, 16)
    table = Table(
        "A few sequences, rows alone: a step of all together, over one after the other",
        [("LSTM", ""), *((f"{n} sequences", ".2f") for n in counts)],
        note="Above 1 together is slower.",
    )
    for hidden_size, vocab_size in layers:
        model = CompiledModel(network("lstm", hidden_size, vocab_size))
        ratios = []
        for n in counts:
            lanes, ids = Lanes(model, n), np.zeros(n, int)
            each = [Lanes(model, 1).alone for _ in range(n)]

            def one_by_one(each: list[Bound] = each) -> None:
                for bound in each:
                    bound.top(bound.below(0))
                    bound.multiply()

            together = partial(lanes.bound(n).read, ids)
            timings = take_turns(
                {
                    "together": partial(repeated, together, 50),
                    "one by one": partial(repeated, one_by_one, 50),
                },
                seconds=seconds / 2,
            )
            ratios.append(timings["together"].median / timings["one by one"].median)
        table.rows.append([f"{hidden_size}, V {vocab_size}", *ratios])
    return table


def streams(seconds: float) -> Table:
    """Making a sample's random numbers ready."""
    generator = np.random.Generator(np.random.PCG64(0))
    state = np.random.PCG64(1).state

    def jump() -> None:
        generator.bit_generator.state = state
        generator.bit_generator.advance(STRIDE * 7 % (1 << 128))  # type: ignore[attr-defined]

    contenders: dict[str, Callable[[], object]] = {
        "a SeedSequence for each": lambda: np.random.default_rng(np.random.SeedSequence([1, 7])),
        "PCG64.jumped": lambda: np.random.Generator(np.random.PCG64(1).jumped(7)),
        "the same jump, in place": jump,
    }
    seeds = list(range(MOST_ROWS))
    at_once = f"a seed of a request's own, {len(seeds)} at once"
    contenders["a seed of a request's own"] = lambda: np.random.PCG64(1).state
    works: dict[str, Callable[[], int]] = {
        name: partial(repeated, work, 500) for name, work in contenders.items()
    }
    works[at_once] = lambda: len(seeds) * repeated(lambda: pcg64_states(seeds), 8)
    timings = take_turns(works, seconds=seconds)
    table = Table("A sample's random numbers: microseconds", [("way", ""), ("a sample", ".2f")])
    table.rows = [[name, 1e6 * timing.median] for name, timing in timings.items()]
    return table


if __name__ == "__main__":
    run(measure, options(__doc__ or "", kernels=True))
