"""How results read: the tables of the command line, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from charrnn.corpus import SPLITS
from charrnn.evaluation import Loss

SEQUENCES = {"names": "names", "text": "blocks of text", "chat": "conversations"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


def table_of_models(cards: Sequence[Mapping[str, Any]]) -> str:
    """What is live, a line a model; `cards` are those of `Generator.card`."""
    head = ("model", "version", "learned from", "network", "parameters", "test nats/char")
    rows = [
        (
            card["name"],
            card["version"],
            f"{sum(card['trained_on'].get(s, 0) for s in SPLITS):,} " + SEQUENCES[card["kind"]],
            f"{card['cell']} {card['hidden_size']} x {card['num_layers']}",
            f"{card['parameters']:,}",
            f"{card['evaluation'].get('test', {}).get('nats_per_character', float('nan')):.4f}",
        )
        for card in cards
    ]
    return table(head, rows)


def table_of_losses(losses: Mapping[str, Loss], each: str) -> str:
    """A line a split; `each` is what its sequences are: a name, or a block."""
    head = ("split", f"{each}s", "nats/char", "bits/char", "perplexity", f"nats/{each}")
    rows = [
        (
            name,
            f"{loss.sequences:,}",
            f"{loss.nats_per_character:.4f}",
            f"{loss.bits_per_character:.4f}",
            f"{loss.perplexity:.3f}",
            f"{loss.nats_per_sequence:.3f}",
        )
        for name, loss in losses.items()
    ]
    return table(head, rows)


def table_of_history(lines: Sequence[Mapping[str, Any]]) -> str:
    """What was live when, and what was refused, in the order in which it was written down."""
    head = ("when (UTC)", "what", "version", "validation", "test", "why")
    rows = [
        (
            str(line.get("at", ""))[:19].replace("T", " "),
            str(line.get("event", "")),
            str(line.get("version", ""))[:12],
            _loss_in(line, "validation"),
            _loss_in(line, "test"),
            str(line.get("reason", "")),
        )
        for line in lines
    ]
    return table(head, rows)


def _loss_in(line: Mapping[str, Any], split: str) -> str:
    """A loss of a line of the history; nothing where it has none."""
    try:
        return f"{line['evaluation'][split]['nats_per_character']:.4f}"
    except (KeyError, TypeError, ValueError):
        return ""
