"""What the products of training were chosen from: tables of `benchmarks/choices.py`."""

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common import Table, repeated, take_turns
from charrnn import lines
from charrnn.ops import (
    BEST_COLUMNS,
    COLUMNS,
    FEWEST_COLUMNS,
    MOST_COLUMNS,
    MOST_OF_THE_BEST,
    ROWS_OF_FEW,
)
from charrnn.products import in_turn
from charrnn.threads import SMALL

STEPS = ((512, 128, 32), (1024, 256, 32), (1024, 256, 64), (768, 256, 32), (2048, 512, 32))
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
    """What training multiplies by a vocabulary's few rows: at once, and in small products."""
    table = Table(
        "Products with one side as long as the vocabulary, at once / in small ones: microseconds",
        [
            ("LSTM, characters", ""),
            *((name, "") for name in ("logits", "gradient of h", "gradient of V", "gradient of U")),
        ],
        note=f"The logits and the gradient of h by as many times {COLUMNS} characters as are "
        f"small, at least {FEWEST_COLUMNS}; the gradients of V and U by {ROWS_OF_FEW} rows, for "
        f"up to {BEST_COLUMNS} symbols, on kernels for AVX-512. A star: training does so.",
    )
    rng = np.random.default_rng(0)
    for size, symbols, characters in CHARACTERS[:1] if quick else CHARACTERS:
        h, da, dlogits = (
            lines.copy(rng.standard_normal((rows, characters), np.float32))
            for rows in (size, 4 * size, symbols)
        )
        V = lines.copy(rng.standard_normal((size, symbols), np.float32))
        most = max(COLUMNS, SMALL // V.size // COLUMNS * COLUMNS)
        wide = [slice(start, start + most) for start in range(0, characters, most)]
        is_wide = FEWEST_COLUMNS <= most < characters
        is_few = symbols <= BEST_COLUMNS and ROWS_OF_FEW * symbols * characters <= SMALL
        cells = []
        for x, y, takes_small in (
            (V.T, h, is_wide),
            (V, dlogits, is_wide),
            (h, dlogits.T, is_few),
            (da, dlogits.T, is_few),
        ):
            out = lines.empty((len(x), y.shape[1]), np.float32)
            if y.shape[1] == characters:
                parts = [(np.matmul, x, y[:, part], out[:, part]) for part in wide]
            else:
                parts = [
                    (np.matmul, x[rows], y, out[rows])
                    for start in range(0, len(x), ROWS_OF_FEW)
                    for rows in [slice(start, start + ROWS_OF_FEW)]
                ]
            ways: dict[str, Callable[[], object]] = {
                "at once": partial(np.matmul, x, y, out),
                "small": in_turn(parts),
            }
            contenders = {way: partial(repeated, work, 5) for way, work in ways.items()}
            timings = take_turns(contenders, seconds=seconds / 4)
            times = " / ".join(f"{1e6 * timing.median:.0f}" for timing in timings.values())
            cells.append(times + " *" * takes_small)
        table.rows.append([f"{size}, V {symbols}, {characters:,}", *cells])
    return table
