"""How results read: the tables of the command line, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from charrnn.evaluation import Loss
from charrnn.scoring import Score
from charrnn.splits import SPLITS

_TEXTS = {"character": "blocks of text", "word": "sentences"}


def sequences_of(kind: str, unit: str) -> str:
    """What a model learned from, in the plural."""
    return {"names": "names", "chat": "conversations"}.get(kind, _TEXTS[unit])


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
    head = ("model", "version", "learned from", "network", "parameters", "test nats/symbol")
    rows = [
        (
            card["name"],
            card["version"],
            f"{sum(card['trained_on'].get(s, 0) for s in SPLITS):,} "
            + sequences_of(card["kind"], card.get("unit", "character")),
            f"{card['cell']} {card['hidden_size']} x {card['num_layers']}",
            f"{card['parameters']:,}",
            f"{card['evaluation'].get('test', {}).get('nats_per_character', float('nan')):.4f}",
        )
        for card in cards
    ]
    return table(head, rows)


def table_of_losses(losses: Mapping[str, Loss], each: str, unit: str = "character") -> str:
    """A line a split; `each` is what its sequences are: a name, a block, a sentence; `unit` what
    their symbols are: a character, or a word.
    """
    short = {"character": "char"}.get(unit, unit)
    head = ("split", f"{each}s", f"nats/{short}", f"bits/{short}", "perplexity", f"nats/{each}")
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


def table_of_score(score: Score) -> str:
    """A text as a whole, then a line for each of its symbols."""
    share = score.likelier_than
    beside = "" if share is None else f", likelier than {share:.0%} of the list by its perplexity"
    whole = f"{score.text}: {score.logprob:.4f} nats, perplexity {score.perplexity:.3f}{beside}"
    head = ("symbol", "probability", "expected")
    rows = [
        (
            _visible(each.symbol),
            f"{each.probability:.4f}",
            ", ".join(f"{_visible(e.symbol)} {e.probability:.4f}" for e in each.expected),
        )
        for each in score.symbols
    ]
    return f"{whole}\n{table(head, rows)}"


def _visible(symbol: str) -> str:
    return {"\n": "end", " ": "space"}.get(symbol, symbol)


PERCENT, SMALL = "{:.2%}", "{:.4f}"
COMPARED = (  # a figure of `Comparison` or `TextComparison`, what it is called, and how it reads
    ("novel", "in no split of the list", PERCENT),
    ("distinct", "different from one another", PERCENT),
    ("valid_lengths", "of a length that the list has", PERCENT),
    ("empty", "with nothing in them", PERCENT),
    ("repeating", "that repeat themselves", PERCENT),
    ("letter_pairs", "letter pairs, total variation (0-1)", SMALL),
    ("lengths", "lengths, total variation (0-1)", SMALL),
    ("nearest", "edit distance to the nearest learned (0-1)", SMALL),
    ("nats_per_character", "nats/char by the network itself", SMALL),
)


def table_of_comparison(values: Mapping[str, Any]) -> str:
    """What was drawn beside what is real; `values` are those of `Comparison.to_json`, or of
    `TextComparison.to_json`.
    """
    drawn = f"{values['samples']:,} drawn at temperature {values['temperature']:g}"
    rows = []
    for field, what, form in COMPARED:
        value = values.get(field)
        if isinstance(value, Mapping):
            rows.append((what, form.format(value["generated"]), form.format(value["real"])))
        elif value is not None:
            rows.append((what, form.format(value), ""))
    for field, total in (("rediscovered", "test_names"), ("repeated", "training_names")):
        if values.get("rediscovery_samples"):
            what = f"{total.replace('_', ' ')} among {values['rediscovery_samples']:,} drawn"
            found, of = values[field], values[total]
            rows.append((what, f"{found:,} of {of:,} ({found / of:.1%})", ""))
    return table((drawn, "", "real"), rows)


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
