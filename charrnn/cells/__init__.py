"""The recurrent cells, by name."""

from charrnn.cells.base import Cell
from charrnn.cells.gru import GRU
from charrnn.cells.lstm import LSTM
from charrnn.cells.rnn import RNN
from charrnn.errors import ConfigError, FieldProblem

CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN(), LSTM(), GRU())}

__all__ = ["CELLS", "Cell", "cell_named"]


def cell_named(name: str) -> Cell:
    """The cell called `name`. Raises ConfigError with the known names."""
    try:
        return CELLS[name]
    except KeyError:
        rule = f"must be one of {', '.join(CELLS)}"
        raise ConfigError([FieldProblem("cell", rule, repr(name))]) from None
