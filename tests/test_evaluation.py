"""The loss that is reported, against a naive loop."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from charrnn import evaluation
from charrnn.config import ModelConfig
from charrnn.evaluation import Loss, evaluate, seconds_for_a_symbol
from charrnn.model import CharRNN
from charrnn.ops import Workspace, log_softmax
from tests.training_runs import small_corpus


@pytest.mark.parametrize("kind", ["names", "text"])
def test_the_loss_is_the_mean_over_all_targets_from_a_zero_state_each(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("charrnn.batches.EVALUATION_ROWS", 40)  # so that long blocks are cut
    corpus = small_corpus(kind, tmp_path)
    config = ModelConfig(cell="gru", hidden_size=5, vocab_size=len(corpus.vocabulary))
    model = CharRNN.initialized(config, np.random.default_rng(0), np.float64)
    sequences, total, count = corpus.sequences["validation"], 0.0, 0
    for sequence in sequences:
        text = f"\n{sequence}\n" if kind == "names" else sequence
        ids = corpus.vocabulary.ids_of(text)
        logits, _, _ = model.forward(ids[None, :-1], model.init_state(1))
        total -= sum(log_softmax(logits[0])[np.arange(len(ids) - 1), ids[1:]])
        count += len(ids) - 1
    loss = evaluate(model, sequences, corpus.vocabulary, Workspace())
    assert (loss.sequences, loss.characters) == (len(sequences), count)
    assert abs(loss.nats_per_character - total / count) < 1e-12


def test_the_other_units_follow_from_nats_per_character():
    loss = Loss(nats_per_character=math.log(2), sequences=4, characters=12)
    assert loss.bits_per_character == pytest.approx(1)
    assert loss.perplexity == pytest.approx(2)
    assert loss.nats_per_sequence == pytest.approx(3 * math.log(2))


def test_how_long_it_takes_is_told_by_a_part_of_it(tmp_path, monkeypatch):
    corpus, read = small_corpus("text", tmp_path), []
    monkeypatch.setattr("charrnn.batches.EVALUATION_ROWS", 40)
    monkeypatch.setattr(evaluation, "time", SimpleNamespace(monotonic=lambda: len(read)))
    monkeypatch.setattr(evaluation, "TRIED_SECONDS", 2)
    model = SimpleNamespace(
        init_state=lambda rows: None, loss=lambda batch, *_: read.append(len(batch.ids))
    )
    args = corpus.sequences["validation"], corpus.vocabulary, Workspace()
    assert seconds_for_a_symbol(model, *args) == 3 / sum(read)
    assert len(read) == 3
    assert sum(read) < corpus.characters("validation")
