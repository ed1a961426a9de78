"""The tables of the command line."""

from charrnn.evaluation import Loss
from charrnn.tables import table, table_of_comparison, table_of_losses, table_of_models


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_where_they_end():
    assert table(("a", "long"), [("wide", "b"), ("c", "d")]) == "a     long\nwide  b\nc     d"


def test_no_rows_leave_the_head():
    assert table(("a", "b"), []) == "a  b"


def test_losses_name_what_their_sequences_are():
    text = table_of_losses({"test": Loss(1.0, 2, 10)}, "block")
    head, line = text.splitlines()
    assert head.split() == [
        *("split", "blocks", "nats/char", "bits/char", "perplexity", "nats/block")
    ]
    assert line.split() == ["test", "2", "1.0000", "1.4427", "2.718", "5.000"]


def test_a_model_without_its_notes_is_listed_all_the_same():
    card = {
        **{"name": "m", "version": "0123", "kind": "text", "cell": "gru", "hidden_size": 8},
        **{"num_layers": 2, "parameters": 1234, "trained_on": {}, "evaluation": {}},
    }
    line = table_of_models([card]).splitlines()[1]
    assert line.split("  ")[-1].strip() == "nan"
    assert "0 blocks of text  gru 8 x 2  1,234" in line


def test_a_comparison_puts_what_was_drawn_beside_what_is_real():
    values = {
        **{"temperature": 0.8, "samples": 1000, "novel": 0.5, "rediscovery_samples": 2000},
        "letter_pairs": {"generated": 0.25, "real": 0.125},
        **{"rediscovered": 1, "test_names": 8, "repeated": 3, "training_names": 60},
    }
    text = [" ".join(line.split()) for line in table_of_comparison(values).splitlines()]
    assert text == [
        "1,000 drawn at temperature 0.8 real",
        "in no split of the list 50.00%",
        "letter pairs, total variation (0-1) 0.2500 0.1250",
        "test names among 2,000 drawn 1 of 8 (12.5%)",
        "training names among 2,000 drawn 3 of 60 (5.0%)",
    ]
