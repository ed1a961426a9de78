"""`python -m charrnn check`: every gradient written by hand, against two that nobody wrote.

A small network of each cell, in float64, with sequences of unequal length and a state to begin
from. By hand: a step at a time (`Cell.backward`), and a packed batch at once
(`Cell.backward_sequence`, which trains). Against: the computation graph (`reference`), and central
differences of the loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
import numpy as np

from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.model import CharRNN
from charrnn.ops import Workspace, cross_entropy
from charrnn.packed import Batch
from charrnn.parameters import Array
from charrnn.reference import graph_gradients
from charrnn.tables import table

# All sizes differ, so that no swapped axis fits by chance.
HIDDEN, LAYERS, VOCABULARY = 4, 2, 5
LENGTHS = (5, 3, 3)
FROM_THE_GRAPH = 1e-10  # the same sums in another order
FROM_DIFFERENCES = 1e-7  # the differences themselves are good to about 1e-9

Gradients = Mapping[str, Array]


@dataclass(frozen=True)
class Row:
    """One parameter (or the initial state), and how far apart its gradients are, relatively."""

    parameter: str
    shape: tuple[int, ...]
    steps: float  # a step at a time, against the graph
    batch: float  # a batch at once, against the graph
    differences: float  # a batch at once, against central differences
    largest: float  # the largest entry of the gradient

    @property
    def passed(self) -> bool:
        """Whether the gradients agree, and are not zero. A nan passes nothing."""
        by_hand = self.steps <= FROM_THE_GRAPH and self.batch <= FROM_THE_GRAPH
        return by_hand and self.differences <= FROM_DIFFERENCES and self.largest > 0


@dataclass(frozen=True)
class Case:
    """A network, what it reads, and the two gradients that are not written by hand."""

    model: CharRNN
    sequences: Sequence[tuple[Array, Array]]
    batch: Batch
    state: Array
    graph: Gradients
    differences: Gradients


def case_of(cell: str, *, layers: int = LAYERS, hidden: int = HIDDEN) -> Case:
    """A small network with random parameters, the same at each call."""
    config = ModelConfig(cell=cell, hidden_size=hidden, num_layers=layers, vocab_size=VOCABULARY)
    rng = np.random.default_rng([0, *cell.encode()])
    model = CharRNN.initialized(config, rng, np.float64)
    model.params.flat[:] += rng.normal(0, 0.3, model.params.flat.size)
    drawn: list[Array] = [rng.integers(0, VOCABULARY, (2, n)) for n in LENGTHS]
    sequences = [(ids, targets) for ids, targets in drawn]
    state = rng.normal(0, 0.5, model.init_state(len(LENGTHS)).shape)
    batch = _packed(sequences)
    _, grads, dstate = graph_gradients(model, batch, state)
    work = Workspace()

    def loss(_: Array) -> float:
        return model.loss(batch, state, work)[0] / len(batch.ids)

    arrays = {**model.params, "state": state}
    differences = {name: numerical_gradient(loss, array) for name, array in arrays.items()}
    return Case(model, sequences, batch, state, {**grads, "state": dstate}, differences)


def by_steps(case: Case) -> Gradients:
    """Each sequence alone, with the passes that are written as the equations are."""
    model, total = case.model, sum(LENGTHS)
    grads, dstate = model.params.like(), np.zeros_like(case.state)
    for row, (ids, targets) in enumerate(case.sequences):
        one = slice(row, row + 1)
        logits, last, cache = model.forward(ids[None], case.state[:, :, one])
        dlogits = logits[0].T.copy()  # (V, T)
        cross_entropy(dlogits, targets, scale=1 / total)
        own, dstate[:, :, one] = model.backward(dlogits.T[None], np.zeros_like(last), cache)
        grads.flat[:] += own.flat
    return {**grads, "state": dstate}


def by_batch(case: Case) -> Gradients:
    """The packed batch at once, as in training."""
    grads = case.model.params.like()
    _, _, dstate = case.model.loss_and_grads(case.batch, case.state, grads, Workspace())
    return {**grads, "state": dstate}


def rows_of(case: Case) -> list[Row]:
    """The comparison, a row for each parameter and one for the initial state."""
    steps, batch = by_steps(case), by_batch(case)
    return [
        Row(
            name,
            wanted.shape,
            relative_error(steps[name], wanted),
            relative_error(batch[name], wanted),
            relative_error(batch[name], case.differences[name]),
            float(np.abs(wanted).max()),
        )
        for name, wanted in case.graph.items()
    ]


def _packed(sequences: Sequence[tuple[Array, Array]]) -> Batch:
    """A packed batch of (ids, targets) pairs, sorted by falling length."""
    sizes = [sum(n > t for n in LENGTHS) for t in range(max(LENGTHS))]
    ids, targets = (
        np.array([pair[k][t] for t, size in enumerate(sizes) for pair in sequences[:size]])
        for k in (0, 1)
    )
    return Batch(ids, targets, np.array(sizes))


HEAD = ("cell", "gradient by", "shape", "steps - graph", "batch - graph", "batch - differences", "")


def _cells(cell: str, row: Row) -> tuple[str, ...]:
    errors = (f"{error:.1e}" for error in (row.steps, row.batch, row.differences))
    shape = " x ".join(map(str, row.shape))
    return cell, row.parameter, shape, *errors, "ok" if row.passed else "WRONG"


@click.command("check", short_help="Hold every hand-written gradient against two others.")
@click.option(
    "--cell",
    "cells",
    type=click.Choice(list(CELLS)),
    multiple=True,
    help="One cell.  [default: all]",
)
def check_command(cells: Sequence[str]) -> None:
    """Hold every gradient that is written by hand to the computation graph and to numbers.

    A line for each parameter, and for the initial state. Errors are relative to the largest entry.
    "steps" is the backward pass as its equations are written, "batch" the one that trains. Exit 1
    if one is wrong: by more than 1e-10 from the graph, or 1e-7 from central differences.

    \b
    python -m charrnn check
    python -m charrnn check --cell lstm
    """
    found = [(cell, row) for cell in cells or CELLS for row in rows_of(case_of(cell))]
    click.echo(table(HEAD, [_cells(cell, row) for cell, row in found]))
    wrong = sum(not row.passed for _, row in found)
    worst = max((max(row.steps, row.batch) for _, row in found), key=lambda e: (e != e, e))
    click.echo(
        f"{len(found)} gradients, {wrong} wrong; largest relative error from the graph {worst:.1e}"
    )
    if wrong:
        raise click.exceptions.Exit(1)
