"""Conversations as data: whole on one side, learned as long talks, evaluated as they are."""

import hashlib

import numpy as np
import pytest

from charrnn.batches import ChatFeed
from charrnn.config import CorpusConfig, NetworkConfig, TrainConfig
from charrnn.corpus import load_corpus
from charrnn.errors import ConfigError, CorpusError, TrainingInterrupted
from charrnn.generator import Generator
from charrnn.kinds import kind_of
from charrnn.recipe import Recipe
from charrnn.splits import SPLITS
from charrnn.training import Run
from charrnn.weights import from_bytes
from tests.training_runs import small_corpus

TALKS = "\n\n".join(f"> how are you {n}?\nwell, {n}.\n> and now\n{n} again" for n in range(60))


def corpus_of(tmp_path, text=TALKS, **config):
    path = tmp_path / "talks.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_corpus([path], CorpusConfig(**config))


def test_conversations_are_known_by_their_looks():
    assert kind_of(TALKS) == "chat"
    assert kind_of("> quoted\nin a letter\n" + "A line of prose, and more.\n" * 40) == "text"
    assert kind_of("Allo\nBrachio\nCerato\n") == "names"
    assert kind_of("a > b\nc > d\n" * 9) != "chat"


def test_a_conversation_stays_whole_and_on_its_side(tmp_path):
    corpus = corpus_of(tmp_path)
    every = [text for split in SPLITS for text in corpus.sequences[split]]
    assert len(every) == len(set(every)) == 60
    for text in every:
        assert text.startswith("\n> how are you ")
        assert text.endswith(" again\n\n")
        assert text.count("\n> ") == 2
    longer = corpus_of(tmp_path, f"{TALKS}\n\n> a new one\nyes")
    for split in SPLITS:
        assert set(corpus.sequences[split]) <= set(longer.sequences[split])


def test_what_is_odd_is_mended_and_counted(tmp_path):
    again = "> how  are you 3?\r\nwell, 3.\n> and now\n3 again"
    text = f"{TALKS}\r\n\r\n\r\n\r\n{again}\n\nnobody asked\n"
    corpus = corpus_of(tmp_path, text, kind="chat")
    assert corpus.mended["duplicates"] == 1
    assert corpus.mended["conversations left out, in which nobody is answered"] == 1
    assert sum(len(part) for part in corpus.sequences.values()) == 60


def test_too_few_conversations_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"needs at least 3 different conversations .* got 2"):
        corpus_of(tmp_path, "> a\nb\n\n> c\nd\n", kind="chat")


@pytest.mark.parametrize("chain", [1, 3, 50])
def test_every_conversation_is_learned_once_an_epoch_in_talks_of_up_to_so_many(tmp_path, chain):
    corpus = corpus_of(tmp_path)
    feed = ChatFeed(corpus, 4, chain, 7)
    for epoch in range(2):
        seen = []
        for step in range(feed.steps_in_epoch):
            batch = feed.batch(epoch * feed.steps_in_epoch + step)
            for row in rows_of(batch):
                text = corpus.vocabulary.decode(row)
                assert text.startswith("\n> ")
                assert text.endswith("again\n\n")
                assert "\n\n" not in text[:-2]
                seen += text[1:-2].split("> how")[1:]
        expected = [text[1:-2].split("> how")[1] for text in corpus.sequences["train"]]
        if chain < 50:  # there, an epoch may have fewer talks than batches
            assert sorted(part.strip() for part in seen) == sorted(p.strip() for p in expected)
        assert {part.strip() for part in seen} == {part.strip() for part in expected}


def rows_of(batch):
    """The sequences of a packed batch, from the first symbol that is read to the last target."""
    starts = np.concatenate([[0], np.cumsum(batch.sizes)[:-1]])
    for row in range(int(batch.sizes[0])):
        places = [
            start + row for start, size in zip(starts, batch.sizes, strict=True) if row < size
        ]
        yield [int(batch.ids[places[0]]), *batch.targets[places].tolist()]


def test_which_batch_comes_at_a_step_follows_from_the_seed_and_the_step(tmp_path):
    corpus = corpus_of(tmp_path)
    one, other, another = (ChatFeed(corpus, 4, 3, seed) for seed in (7, 7, 8))
    for step in (5, 0, 17, 5):
        assert (one.batch(step).ids == other.batch(step).ids).all()
    assert any(len(one.batch(s).ids) != len(another.batch(s).ids) for s in range(5))
    assert one.starts_afresh(3)


@pytest.mark.parametrize("chain", [1, 3, 50])
def test_the_largest_batch_of_talks_is_known_before_the_first(tmp_path, chain):
    talks = [talk + " very" * (n % 13 == 0) * n for n, talk in enumerate(TALKS.split("\n\n"))]
    feed = ChatFeed(corpus_of(tmp_path, "\n\n".join(talks)), 4, chain, 7)
    sizes = [len(feed.batch(step).ids) for step in range(40)]
    for steps in (1, 7, 40):
        assert sizes[feed.largest_step(steps)] == max(sizes[:steps])
    assert len(feed.batch(feed.largest_step(None)).ids) >= max(sizes)


def test_words_left_out_change_what_a_person_says_and_nothing_else(tmp_path):
    corpus = corpus_of(tmp_path)
    plain, feed, other, another = (
        ChatFeed(corpus, 4, 3, seed, rate) for seed, rate in ((7, 0), (7, 0.4), (7, 0.4), (8, 0.4))
    )
    changed = 0
    for step in (5, 0, 17, 5):
        batch, same = feed.batch(step), other.batch(step)
        assert batch.ids.tobytes() == same.ids.tobytes()
        assert batch.targets.tobytes() == same.targets.tobytes()
        lines = [
            [corpus.vocabulary.decode(row)[1:-2].split("\n") for row in rows_of(each)]
            for each in (plain.batch(step), batch)
        ]
        replies, kept = (
            sorted(tuple(line for line in talk if line[:2] != "> ") for talk in talks)
            for talks in lines
        )
        assert replies == kept
        changed += sorted(lines[0]) != sorted(lines[1])
    assert changed == 4  # where each of a step's 24 lines or so stays in one case of three
    first = [feed.batch(feed.steps_in_epoch * epoch).ids.tobytes() for epoch in range(3)]
    assert len(set(first)) == 3
    assert feed.batch(0).ids.tobytes() != another.batch(0).ids.tobytes()


def test_without_it_batches_are_what_they_were(tmp_path):
    """Pinned from before there was such a setting."""
    feed, digest = ChatFeed(corpus_of(tmp_path), 4, 3, 7), hashlib.sha256()
    for step in range(12):
        batch = feed.batch(step)
        for array in (batch.ids, batch.targets, batch.sizes):
            digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "86842db3b8a789e9"


def recipe_with(processes=1, **training):
    values = {"steps": 24, "batch_size": 4, "chain": 2, "random_seed": 1, "evaluate_every": 6}
    return Recipe(
        name="talks",
        data=["talks.txt"],
        network=NetworkConfig(cell="gru", hidden_size=12, dropout=0.2),
        training=TrainConfig.checked({**values, "processes": processes, **training}),
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_leaves_words_out_ends_with_the_same_bytes_stopped_or_not(tmp_path, processes):
    corpus, recipe = corpus_of(tmp_path), recipe_with(processes, word_dropout=0.3)
    whole = Run(recipe, corpus).train()
    assert whole.model.provenance["recipe"]["training"]["word_dropout"] == 0.3
    for step in (1, 10):
        asked = iter(range(100))
        with pytest.raises(TrainingInterrupted):
            Run(
                *(recipe, corpus, tmp_path / "run"),
                stop=lambda asked=asked, step=step: next(asked) == step,
            ).train()
    assert Run(recipe, corpus, tmp_path / "run").train().data == whole.data
    without = Run(recipe_with(processes), corpus).train()
    assert "word_dropout" not in without.model.provenance["recipe"]["training"]
    assert (without.model.params.flat != whole.model.params.flat).any()


@pytest.mark.parametrize("kind", ["names", "text"])
def test_leaving_words_out_is_for_conversations_alone(tmp_path, kind):
    recipe = recipe_with(word_dropout=0.3)
    rule = r"training\.word_dropout must be left out, or 0, where the data are no conversations"
    with pytest.raises(ConfigError, match=f"{rule}, got 0.3"):
        Run(recipe, small_corpus(kind, tmp_path))


def test_a_model_of_conversations_is_trained_kept_and_talks(tmp_path):
    corpus = corpus_of(tmp_path)
    recipe = Recipe(
        name="talks",
        data=["talks.txt"],
        network=NetworkConfig(cell="gru", hidden_size=24, dropout=0.1),
        training=TrainConfig(steps=60, batch_size=8, chain=2, learning_rate=0.02, random_seed=1),
    )
    trained = Run(recipe, corpus).train()
    assert Run(recipe, corpus).train().data == trained.data
    frozen = from_bytes(trained.data)
    assert frozen.kind == "chat"
    assert frozen.provenance["recipe"]["corpus"]["kind"] == "chat"
    assert frozen.evaluation["test"]["nats_per_character"] < 2.5  # of ln 26 = 3.3
    assert "\n" not in Generator("talks", "", frozen).chat().say("how are you 3?")
