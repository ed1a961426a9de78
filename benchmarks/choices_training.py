"""What the products of training were chosen from: tables of `benchmarks/choices.py`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import Table, repeated, take_turns
from charrnn import lines, optimizers
from charrnn.config import TrainConfig
from charrnn.ops import (
    BEST_COLUMNS,
    COLUMNS,
    FEWEST_OF_FEW,
    MOST_COLUMNS,
    MOST_OF_THE_BEST,
    TURNED,
    Workspace,
    columns_at_a_time,
    rows_of_few,
    step_product,
    turned,
)
from charrnn.packed import PROJECTED, PROJECTED_SIZES
from charrnn.parameters import Array, Parameters
from charrnn.products import in_turn
from charrnn.threads import SMALL

STEPS = ((512, 128, 32), (1024, 256, 32), (1024, 256, 64), (768, 256, 32), (2048, 512, 32))
PARAMETERS = (23_451, 350_000, 3_200_000)  # of RNN 128, LSTM 256, LSTM 512 x 2, about
CHARACTERS = ((128, 27, 400), (128, 27, 800), (256, 27, 1024), (128, 65, 400), (256, 65, 1024))


def steps(seconds: float, *, quick: bool) -> Table:
    """The recurrent product of a step of training, all at once and by some rows of W."""
    ways = ("all at once", "64 rows", "32 rows", "16 rows", "8 rows")
    table = Table(
        "W (rows, terms) times the outputs of some sequences: microseconds",
        [("rows, terms, sequences", ""), *((way, "") for way in ways)],
        note=f"Stars: each product makes at most {SMALL:,} multiplications. Training takes such a "
        f"one for up to {MOST_COLUMNS} sequences, and for multiples of {BEST_COLUMNS} up to "
        f"{MOST_OF_THE_BEST}, on kernels for AVX-512.",
    )
    rng = np.random.default_rng(0)
    for height, terms, columns in STEPS[:1] if quick else STEPS:
        W = lines.copy(rng.standard_normal((height, terms), np.float32))
        h = lines.copy(rng.standard_normal((terms, columns), np.float32))
        out = lines.empty((height, columns), np.float32)
        contenders = {}
        for way in ways:
            rows = height if way == ways[0] else int(way.split()[0])
            shape = (-1, rows)
            work = partial(np.matmul, W.reshape(*shape, terms), h, out.reshape(*shape, columns))
            contenders[way] = partial(repeated, work, 5)
        timings = take_turns(contenders, seconds=seconds / 2)
        cells = []
        for way in ways:
            rows = height if way == ways[0] else int(way.split()[0])
            star = " *" if rows * terms * columns <= SMALL else ""
            cells.append(f"{1e6 * timings[way].median:.0f}{star}")
        table.rows.append([f"{height}, {terms}, {columns}", *cells])
    return table


def small_vocabularies(seconds: float, *, quick: bool) -> Table:
    """What training multiplies with one side as long as the vocabulary: at once, and in small
    products.
    """
    table = Table(
        "Products with one side as long as the vocabulary, at once / in small ones: microseconds",
        [
            ("LSTM, characters", ""),
            *((name, "") for name in ("logits", "gradient of h", "gradient of V", "gradient of U")),
        ],
        note=f"The logits and the gradient of h by as many times {COLUMNS} characters as are "
        f"small, or {COLUMNS}; the gradients of V and U by as many rows as are, or "
        f"{FEWEST_OF_FEW}. A star: on kernels for AVX-512 training does so.",
    )
    rng = np.random.default_rng(0)
    for size, symbols, characters in CHARACTERS[:1] if quick else CHARACTERS:
        h, da, dlogits = (
            lines.copy(rng.standard_normal((rows, characters), np.float32))
            for rows in (size, 4 * size, symbols)
        )
        V = lines.copy(rng.standard_normal((size, symbols), np.float32))
        wide, few = columns_at_a_time(*V.shape), rows_of_few(characters, symbols)
        cells = []
        for x, y in ((V.T, h), (V, dlogits)):
            times = _at_once_and_split(x, y, columns=wide or COLUMNS, seconds=seconds / 4)
            cells.append(f"{times} *" if wide else times)
        for x in (h, da):
            times = _at_once_and_split(x, dlogits.T, rows=few or FEWEST_OF_FEW, seconds=seconds / 4)
            cells.append(f"{times} *" if few else times)
        table.rows.append([f"{size}, V {symbols}, {characters:,}", *cells])
    return table


def _at_once_and_split(
    x: Array, y: Array, *, rows: int = 0, columns: int = 0, seconds: float
) -> str:
    """Microseconds of x @ y, and of the same by so many rows of x, or columns of y."""
    out = lines.empty((len(x), y.shape[1]), np.float32)
    calls: list[tuple[Any, ...]] = []
    for start in range(0, len(x), rows or len(x)):
        some = slice(start, start + (rows or len(x)))
        for begin in range(0, y.shape[1], columns or y.shape[1]):
            part = slice(begin, begin + (columns or y.shape[1]))
            calls.append((np.matmul, x[some], y[:, part], out[some, part]))
    works: dict[str, Callable[[], object]] = {
        "at once": partial(np.matmul, x, y, out),
        "split": in_turn(calls),
    }
    contenders = {way: partial(repeated, work, 5) for way, work in works.items()}
    timings = take_turns(contenders, seconds=seconds)
    return " / ".join(f"{1e6 * timing.median:.0f}" for timing in timings.values())


def adam(seconds: float, *, quick: bool) -> Table:
    """A step of Adam, some numbers of each vector at a time."""
    blocks = (8_192, 16_384, 32_768, 65_536)
    table = Table(
        "A step of Adam by so many numbers at a time: microseconds",
        [("parameters", ""), *((f"{block:,}", ".0f") for block in blocks)],
        note=f"Training takes {optimizers.BLOCK:,}.",
    )
    rng, taken = np.random.default_rng(0), optimizers.BLOCK
    for count in PARAMETERS[:1] if quick else PARAMETERS:
        params = Parameters({"all": (count,)}, lines.zeros(count, np.float32))
        gradient = lines.copy(rng.standard_normal(count, np.float32))
        contenders = {}
        try:
            for block in blocks:
                optimizers.BLOCK = block
                rule = optimizers.Adam(params, TrainConfig())
                contenders[block] = partial(_step, rule, params.flat, gradient, block)
            timings = take_turns({str(k): work for k, work in contenders.items()}, seconds=seconds)
        finally:
            optimizers.BLOCK = taken
        table.rows.append([f"{count:,}", *(1e6 * timing.median for timing in timings.values())])
    return table


def between_layers(seconds: float, *, quick: bool) -> Table:
    """What U of an upper layer needs: itself, transposed, and its product with what is below."""
    table = Table(
        "U (terms, rows) between two layers: microseconds",
        [
            ("rows, terms, sequences", ""),
            ("transposed, at once / in strips", ""),
            (f"a step's product, alone / of {PROJECTED} columns", ""),
        ],
        note=f"Strips of {TURNED} columns. Training multiplies as many steps at once as make "
        f"{PROJECTED} columns, where all have {' or '.join(map(str, PROJECTED_SIZES))} sequences.",
    )
    rng = np.random.default_rng(0)
    for height, terms, columns in STEPS[:1] if quick else STEPS:
        if columns not in PROJECTED_SIZES:
            continue
        U = lines.copy(rng.standard_normal((terms, height), np.float32))
        U_T, scale = lines.empty((height, terms), np.float32), np.ones((height, 1), np.float32)
        x = lines.copy(rng.standard_normal((terms, PROJECTED), np.float32))
        alone, several = x[:, :columns], PROJECTED // columns
        out, all_out = (lines.empty((height, n), np.float32) for n in (columns, PROJECTED))
        works: list[tuple[Callable[[], object], int]] = [
            (partial(np.multiply, U.T, scale, U_T), 1),
            (partial(turned, U, scale, U_T, Workspace()), 1),
            (partial(step_product, U_T, alone, out), 1),
            (partial(step_product, U_T, x, all_out), several),
        ]
        contenders = {str(k): partial(repeated, work, 5) for k, (work, _) in enumerate(works)}
        timings = take_turns(contenders, seconds=seconds)
        times = [
            f"{1e6 * timing.median / steps:.0f}"
            for timing, (_, steps) in zip(timings.values(), works, strict=True)
        ]
        cells = (" / ".join(times[:2]), " / ".join(times[2:]))
        table.rows.append([f"{height}, {terms}, {columns}", *cells])
    return table


def _step(rule: optimizers.Adam, params: Array, gradient: Array, block: int) -> int:
    optimizers.BLOCK = block
    rule.step(params, gradient, 1e-3, 1)
    return 1
