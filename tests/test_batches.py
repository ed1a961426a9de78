"""Packed batches: each name or target once, in an order that follows from the seed and the step."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.batches import NameFeed, TextFeed, evaluation_batches, packed
from charrnn.config import ModelConfig
from charrnn.corpus import Corpus
from charrnn.evaluation import evaluate
from charrnn.model import CharRNN
from charrnn.ops import Workspace, log_softmax
from charrnn.reading import Source
from charrnn.splits import SPLITS
from charrnn.vocabulary import END, Vocabulary
from tests.builders import made_up
from tests.reference import pack

seeded = settings(deadline=None, derandomize=True, database=None)


def names_corpus(names, train=None):
    """A corpus of names, all of them on the training side unless some are given."""
    sides = {"train": tuple(train or names), "validation": names[:1], "test": names[:1]}
    vocabulary = Vocabulary.of(names, ends=True)
    return Corpus("names", vocabulary, sides, tuple(names), Source("", "", 0, {}), {})


def text_corpus(text):
    vocabulary = Vocabulary.of([text], ends=False)
    sides = dict.fromkeys(SPLITS, (text,))
    return Corpus("text", vocabulary, sides, (), Source("", "", 0, {}), {})


# --- Feeding names --------------------------------------------------------------------------------


def unpacked(batch):
    """The (ids, targets) of each row of a packed batch."""
    rows = [([], []) for _ in range(batch.sizes[0])]
    start = 0
    for size in batch.sizes:
        for row in range(size):
            rows[row][0].append(int(batch.ids[start + row]))
            rows[row][1].append(int(batch.targets[start + row]))
        start += size
    assert start == len(batch.ids) == len(batch.targets)
    return [(np.array(ids), np.array(targets)) for ids, targets in rows]


def names_in(batch, vocabulary):
    """The names of a batch, each of which must begin and end with the end symbol."""
    found = []
    for ids, targets in unpacked(batch):
        assert ids[0] == targets[-1] == vocabulary.end
        assert np.array_equal(ids[1:], targets[:-1])
        found.append(vocabulary.decode(targets[:-1].tolist()))
    return found


def same(first, second):
    return all(
        np.array_equal(getattr(first, part), getattr(second, part))
        for part in ("ids", "targets", "sizes")
    )


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 200, 201, 1000])
def test_each_epoch_has_every_name_once_in_an_order_of_its_own(batch_size):
    names = made_up(200)
    feed = NameFeed(names_corpus(names), batch_size, 3)
    epochs = []
    for epoch in range(3):
        steps = range(epoch * feed.steps_in_epoch, (epoch + 1) * feed.steps_in_epoch)
        batches = [names_in(feed.batch(s), names_corpus(names).vocabulary) for s in steps]
        assert all(0 < len(batch) <= feed.batch_size <= batch_size for batch in batches)
        assert all(len(batch) == feed.batch_size for batch in batches[:-1])
        epochs.append(list(chain(*batches)))
    assert all(sorted(epoch) == names for epoch in epochs)
    if batch_size < 100:
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert all(feed.starts_afresh(step) for step in range(5))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_packed_batch_equals_naive_packing_sorted_by_falling_length_without_padding(batch_size):
    feed = NameFeed(names_corpus(made_up(64)), batch_size, 0)
    for step in range(feed.steps_in_epoch):
        batch = feed.batch(step)
        rows = unpacked(batch)
        lengths = [len(ids) for ids, _ in rows]
        assert lengths == sorted(lengths, reverse=True)
        assert len(batch.ids) == sum(lengths)
        assert list(batch.sizes) == [sum(n > t for n in lengths) for t in range(max(lengths))]
        assert same(batch, pack(rows))


def test_packing_keeps_the_order_of_equals():
    lengths = np.random.default_rng(0).integers(1, 4, 500)
    starts = np.arange(500) * 4
    batch = packed(np.arange(2000), starts, lengths)
    expected = [starts[lengths == length].tolist() for length in (3, 2, 1)]
    assert [int(ids[0]) for ids, _ in unpacked(batch)] == list(chain(*expected))


@settings(seeded, max_examples=30)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=5), st.integers(0, 9))
def test_a_batch_of_names_follows_from_the_seed_and_the_step_alone(steps, seed):
    corpus = names_corpus(made_up(30))
    used = NameFeed(corpus, 4, seed)
    for step in steps:
        assert same(used.batch(step), NameFeed(corpus, 4, seed).batch(step))


def test_another_seed_gives_other_batches():
    corpus = names_corpus(made_up(200))
    assert not same(NameFeed(corpus, 50, 0).batch(0), NameFeed(corpus, 50, 1).batch(0))
    text = text_corpus("".join(made_up(500))[:2999])  # 498 places to begin at
    assert not same(TextFeed(text, 5, 100, 0).batch(0), TextFeed(text, 5, 100, 1).batch(0))


def test_names_of_any_symbols_are_fed_whole():
    names = ["🦖", "a b", "é", "x" * 500, "\ud800"]
    corpus = names_corpus(names)
    batch = NameFeed(corpus, 9, 0).batch(0)
    assert sorted(names_in(batch, corpus.vocabulary)) == sorted(names)


@pytest.mark.parametrize("steps", [None, 1, 5, 40])
def test_the_largest_batch_is_known_before_the_first(steps):
    names = [name * (1 + 9 * (n % 19 == 0)) for n, name in enumerate(made_up(100))]
    feed = NameFeed(names_corpus(names), 7, 3)
    largest = feed.largest_step(steps)
    sizes = [len(feed.batch(step).ids) for step in range(max(largest + 1, steps or 40))]
    assert sizes[largest] == max(sizes) >= sizes[0]
    assert steps is None or largest < steps
    assert TextFeed(text_corpus("".join(names)), 4, 9, 3).largest_step(steps) == 0


# --- Feeding running text -------------------------------------------------------------------------


@seeded
@given(
    st.integers(2, 120),
    st.integers(1, 40),
    st.integers(1, 140),
    st.integers(0, 3),
    st.integers(0, 2),
)
@example(2, 64, 64, 0, 0)
@example(2, 1, 1, 0, 1)
@example(101, 10, 10, 0, 0)
@example(100, 10, 10, 0, 0)
def test_streams_of_text_go_on_from_step_to_step_for_any_sizes(length, batch, time, seed, epoch):
    text = "".join(chr(0x4E00 + n) for n in range(length))  # every place has a character of its own
    corpus = text_corpus(text)
    feed = TextFeed(corpus, batch, time, seed)
    B, T = feed.batch_size, feed.seq_length
    assert 1 <= B <= batch
    assert 1 <= T <= time
    assert feed.steps_in_epoch >= 1
    first = epoch * feed.steps_in_epoch
    streams = [""] * B
    for step in range(first, first + feed.steps_in_epoch):
        assert feed.starts_afresh(step) == (step == first)
        part = feed.batch(step)
        assert same(part, TextFeed(corpus, batch, time, seed).batch(step))
        assert list(part.sizes) == [B] * T
        for row, (ids, targets) in enumerate(unpacked(part)):
            assert np.array_equal(targets, ids + 1)
            streams[row] += corpus.vocabulary.decode(ids.tolist())
    assert all(stream in text for stream in streams)
    assert "".join(streams) in text  # side by side, without a gap or an overlap
    left_out = len(text) - 1 - sum(map(len, streams))
    assert 0 <= left_out < B * T


def test_epochs_of_text_begin_at_other_places():
    text = "".join(chr(0x4E00 + n) for n in range(1000))
    feed = TextFeed(text_corpus(text), 4, 60, 0)
    firsts = {int(feed.batch(epoch * feed.steps_in_epoch).ids[0]) for epoch in range(10)}
    assert len(firsts) > 3


# --- Evaluation -----------------------------------------------------------------------------------


def covered(sequences, vocabulary):
    """The targets of each sequence, put together from the batches, and how many batches."""
    done, rows, batches = [], [], 0
    for batch, begins in evaluation_batches(sequences, vocabulary):
        batches += 1
        if begins:
            done += rows
            rows = [[] for _ in range(batch.sizes[0])]
        assert all(a >= b for a, b in pairwise(batch.sizes))
        assert batch.sizes[0] <= len(rows)
        for row, (ids, targets) in enumerate(unpacked(batch)):
            before = rows[row][-1] if rows[row] else ids[0]
            assert [before, *targets[:-1]] == list(ids)  # it goes on from where it was
            rows[row] += list(targets)
    return done + rows, batches


@seeded
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 60), st.booleans())
def test_evaluation_covers_each_target_once_whatever_the_size_of_its_batches(lengths, rows, ends):
    lengths = lengths if ends else [n + 1 for n in lengths]
    rng = np.random.default_rng(len(lengths))
    sequences = ["".join(rng.choice(list("abc"), n)) for n in lengths]
    vocabulary = Vocabulary.of(["abc"], ends=ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charrnn.batches.EVALUATION_ROWS", rows)
        found, _ = covered(sequences, vocabulary)
    expected = [list(vocabulary.ids_of(s + END if ends else s[1:])) for s in sequences]
    assert sorted(row for row in found if row) == sorted(row for row in expected if row)


def test_evaluation_of_many_sequences_is_cut_both_ways(monkeypatch):
    monkeypatch.setattr("charrnn.batches.EVALUATION_ROWS", 2000)
    names = made_up(700)
    vocabulary = Vocabulary.of(names, ends=True)
    found, batches = covered(names, vocabulary)
    assert sorted(found) == sorted(list(vocabulary.ids_of(name + END)) for name in names)
    assert batches > 3


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("ends", [True, False])
def test_the_loss_in_chunks_is_the_loss_in_one_go_and_that_of_a_naive_loop(cell, ends, monkeypatch):
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list("abcd"), rng.integers(1, 40))) for _ in range(300)]
    vocabulary = Vocabulary.of(["abcd"], ends=ends)
    config = ModelConfig(cell=cell, hidden_size=3, num_layers=2, vocab_size=len(vocabulary))
    model = CharRNN.initialized(config, rng, np.float64)
    model.params.flat[:] += rng.normal(0, 0.5, model.params.flat.size)
    total, count = 0.0, 0
    for sequence in sequences[:40]:
        text = f"\n{sequence}\n" if ends else sequence
        state, ids = model.init_state(1), vocabulary.ids_of(text)
        for now, following in pairwise(ids):
            logits, state = model.step(np.array([now]), state)
            total -= log_softmax(logits)[0, following]
            count += 1
    for rows in (1, 41, 333, 10**9):
        monkeypatch.setattr("charrnn.batches.EVALUATION_ROWS", rows)
        loss = evaluate(model, sequences[:40], vocabulary, Workspace())
        assert loss.characters == count
        assert loss.nats_per_character == pytest.approx(total / count, abs=1e-12)
    whole = evaluate(model, sequences, vocabulary, Workspace())
    monkeypatch.setattr("charrnn.batches.EVALUATION_ROWS", 600)
    chunked = evaluate(model, sequences, vocabulary, Workspace())
    assert chunked.nats_per_character == pytest.approx(whole.nats_per_character, abs=1e-12)
    assert chunked.characters == whole.characters
