"""`check` passes what is right, and catches a gradient that was broken, whichever line it was."""

import ast
import inspect
import re

import numpy as np
import pytest
from click.testing import CliRunner

from charrnn import checking
from charrnn.cells import CELLS, gru, lstm, rnn
from charrnn.checking import by_batch, by_steps, case_of, rows_of
from charrnn.cli import main

MODULES = {"rnn": rnn, "lstm": lstm, "gru": gru}
METHODS = ("backward", "backward_sequence")
# How one operation of a backward pass may be mistaken for another.
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}
CALLS = {"multiply": "add", "subtract": "add", "add": "subtract"}


def check(*options):
    return CliRunner().invoke(main, ["check", *options])


def test_every_gradient_of_every_cell_is_right():
    done = check()
    assert done.exit_code == 0, done.output
    assert "29 gradients, 0 wrong" in done.output
    assert [cell for cell in CELLS if f"\n{cell} " not in done.output] == []
    assert "layers.1.b_h" in done.output


def test_one_cell_can_be_asked_for_and_an_unknown_one_is_a_mistake():
    done = check("--cell", "lstm")
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.output.splitlines()[1:-1]} == {"lstm"}
    assert check("--cell", "peephole").exit_code == 2


def test_the_command_has_two_examples():
    page = check("--help").output
    assert len(re.findall(r"^ +python -m charrnn check\b", page, re.MULTILINE)) == 2


class Mistake(ast.NodeTransformer):
    """Changes the n-th operation on arrays of a function; counts them on the way."""

    def __init__(self, n):
        self.n, self.found, self.where = n, -1, ""

    def _is_it(self, node):
        self.found += 1
        if self.found == self.n:
            self.where = ast.unparse(node)
        return self.found == self.n

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if type(node.op) in OPERATORS and not self._counts(node) and self._is_it(node):
            node.op = OPERATORS[type(node.op)]()
        return node

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if type(node.op) in OPERATORS and self._is_it(node):
            node.op = OPERATORS[type(node.op)]()
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in CALLS and self._is_it(node):
            node.func.attr = CALLS[name]
        return node

    @staticmethod
    def _counts(node):
        """Whether it reckons with sizes (2 * H), which is not arithmetic on arrays."""
        return {"H"} & {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} != set()


def mistaken(cell, method, n):
    """The cell with one operation of a method changed, and which; None where there is no n-th."""
    module = MODULES[cell]
    tree = ast.parse(inspect.getsource(module))
    kind = type(CELLS[cell]).__name__
    (definition,) = [d for d in tree.body if isinstance(d, ast.ClassDef) and d.name == kind]
    (function,) = [f for f in definition.body if getattr(f, "name", "") == method]
    mistake = Mistake(n)
    mistake.visit(function)
    if not mistake.where:
        return None
    names = {"__name__": module.__name__}
    exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), names)
    return names[kind](), mistake.where


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cell", CELLS)
def test_any_operation_mistaken_for_another_is_caught(cell, method, monkeypatch):
    case, by_hand = case_of(cell), by_steps if method == "backward" else by_batch
    missed, n = [], 0
    while made := mistaken(cell, method, n):
        monkeypatch.setattr(case.model, "cell", made[0])
        with np.errstate(all="ignore"):
            try:
                grads = by_hand(case)
                errors = [checking.relative_error(grads[k], v) for k, v in case.graph.items()]
            except (ValueError, TypeError):  # it doesn't even run
                errors = [np.inf]
        if max(errors) <= checking.FROM_THE_GRAPH:
            missed.append(made[1])
        n += 1
    assert n >= 3
    assert missed == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_broken_cell_fails_the_command(cell, method, monkeypatch):
    made = mistaken(cell, method, 1)
    assert made
    monkeypatch.setitem(CELLS, cell, made[0])
    done = check()
    assert done.exit_code == 1
    wrong = [line.split() for line in done.output.splitlines() if line.endswith("WRONG")]
    assert {line[0] for line in wrong} == {cell}
    assert f"{len(wrong)} wrong" in done.output


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_wrong_by_a_millionth_is_caught(cell, method, monkeypatch):
    right = getattr(CELLS[cell], method)

    def slightly_off(*arguments, **named):
        found = right(*arguments, **named)
        da = found[0] if method == "backward" else found
        da *= 1 + 1e-6
        return found

    case = case_of(cell)
    monkeypatch.setattr(CELLS[cell], method, slightly_off)
    assert not all(row.passed for row in rows_of(case))


def test_a_gradient_of_zeros_or_nan_passes_nothing():
    row = checking.Row("out.c", (5,), 0.0, 0.0, 0.0, 0.0)
    assert not row.passed
    assert not checking.Row("out.c", (5,), float("nan"), 0.0, 0.0, 1.0).passed
    assert checking.Row("out.c", (5,), 0.0, 0.0, 0.0, 1.0).passed
