"""Models of words, and of characters some of which are unknown: trained, kept, generated from."""

import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner

from charrnn.batches import NameFeed
from charrnn.blocklist import Blocklist
from charrnn.cells import CELLS
from charrnn.cli import main
from charrnn.compiled import CompiledModel
from charrnn.config import CorpusConfig, GenerationConfig, ModelConfig, TrainConfig
from charrnn.corpus import load_corpus
from charrnn.decoding import DecodeBatch
from charrnn.errors import ConfigError, CorpusError, WeightsFormatError
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.packed import SMALL_VOCABULARY, Batch
from charrnn.recipe import Recipe
from charrnn.retraining import retrain, train
from charrnn.splits import SPLITS
from charrnn.store import Store
from charrnn.training import Run
from charrnn.vocabulary import UNKNOWN, Vocabulary
from charrnn.weights import (
    FORMAT,
    FORMAT_OF_WORDS,
    FrozenModel,
    from_bytes,
    to_bytes,
    unpack_arrays,
)
from charrnn.wordlist import WordVocabulary
from tests.models import constant_network, frozen, generator

WHO, DOES, WHAT = (
    ("Anna", "the cat", "my dog", "Rome"),
    ("saw", "left", "fed"),
    ("it", "home", "us"),
)
SENTENCES = [f"{who} {does} {what}." for who in WHO for does in DOES for what in WHAT]
LINES = [f"Then {s}" for s in SENTENCES] + [s[0].upper() + s[1:] for s in SENTENCES]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "story.txt"
    path.write_text(" ".join(LINES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def corpus(text):
    return load_corpus([text], CorpusConfig(unit="word"))


@pytest.fixture(scope="module")
def trained(corpus):
    recipe = Recipe.checked(
        {
            "name": "story",
            "data": ["story.txt"],
            "corpus": {"unit": "word"},
            "network": {"hidden_size": 16, "dropout": 0.0},
            "training": {"steps": 200, "batch_size": 16, "learning_rate": 0.02, "averaging": 0},
        }
    )
    return Run(recipe, corpus).train()


@pytest.fixture(scope="module")
def story(trained):
    return Generator("story", trained.version, trained.model)


def random_words(**settings):
    """A generator of sentences with random weights, whose sentences don't end soon."""
    vocabulary = WordVocabulary.of(LINES, largest=100, fewest=1)
    return generator(frozen("text", vocabulary, end_logit=-3.0, **settings))


# Data


def test_sentences_are_learned_from_with_their_ends(corpus):
    assert (corpus.kind, corpus.each, corpus.carries_state) == ("text", "sentence", False)
    assert sum(len(corpus.sequences[s]) for s in SPLITS) == len(LINES)
    assert corpus.characters("train") == sum(
        len(corpus.vocabulary.ids_of(s)) + 1 for s in corpus.sequences["train"]
    )


def test_words_are_known_from_what_is_learned_from_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" ".join(f"Word{n} word{n} is here." for n in range(60)))
    corpus = load_corpus([path], CorpusConfig(unit="word", fewest=1))
    learned = {w for s in corpus.sequences["train"] for w in s.lower().split()}
    held_out = {w for s in corpus.sequences["test"] for w in s.lower().split()} - learned
    assert held_out
    assert not held_out & set(corpus.vocabulary.symbols)


@pytest.mark.parametrize("settings", [{"kind": "names"}, {"case": "title"}])
def test_what_does_not_go_with_words_is_refused(text, settings):
    with pytest.raises(ConfigError, match="where unit is word"):
        load_corpus([text], CorpusConfig.checked({"unit": "word", **settings}))


def test_too_few_sentences_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One. Two. Three.")
    with pytest.raises(CorpusError, match="at least 20 sentences to learn words from, got 3"):
        load_corpus([path], CorpusConfig(unit="word"))


# Training


def test_it_learns_and_comes_back_from_its_file(trained, corpus):
    loss = trained.model.evaluation["test"]["nats_per_character"]
    assert loss < 0.6 * np.log(len(corpus.vocabulary))
    assert trained.model.vocabulary == corpus.vocabulary
    assert unpack_arrays(trained.data, "")[1]["format"] == FORMAT_OF_WORDS
    assert trained.model.provenance["recipe"]["corpus"]["unit"] == "word"


def test_a_file_without_an_unknown_symbol_has_the_first_format():
    plain = frozen("text", Vocabulary.of(["abc"], ends=False))
    rare = frozen("text", Vocabulary.of(["aabbc"], ends=False, fewest=2))
    formats = [unpack_arrays(to_bytes(model), "")[1]["format"] for model in (plain, rare)]
    assert formats == [FORMAT, FORMAT_OF_WORDS]
    assert from_bytes(to_bytes(rare)).vocabulary == rare.vocabulary


def test_names_of_words_are_refused():
    vocabulary = WordVocabulary.of(LINES, largest=9, fewest=1)
    model = frozen("names", vocabulary)
    with pytest.raises(WeightsFormatError, match="names must be of characters"):
        from_bytes(to_bytes(model))


def packed_batch(rng, vocab, span=0):
    sizes = np.array([4, 4, 3, 3, 3, 2, 1])
    ids, targets = rng.integers(0, vocab, (2, sizes.sum()))
    return Batch(ids, targets, sizes, span)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("span", [1, 3, 7, 9])
def test_a_truncated_gradient_is_that_of_its_stretches(cell, span):
    rng, work = np.random.default_rng(0), Workspace()
    config = ModelConfig(cell=cell, hidden_size=5, num_layers=2, vocab_size=7)
    model = CharRNN.initialized(config, rng, np.float64)
    batch = packed_batch(rng, 7, span)
    grads, expected, part = (model.params.like() for _ in range(3))
    state = model.init_state(4)
    loss, final, _ = model.loss_and_grads(batch, state, grads, work)
    total, ends = 0.0, np.concatenate([[0], np.cumsum(batch.sizes)])
    for begin in range(0, len(batch.sizes), span):
        sizes = batch.sizes[begin : begin + span]
        rows = slice(ends[begin], ends[begin + len(sizes)])
        stretch = Batch(batch.ids[rows], batch.targets[rows], sizes)
        alive = state[:, :, : sizes[0]]
        nats, state[:, :, : sizes[0]], _ = model.loss_and_grads(stretch, alive, part, work)
        weight = len(stretch.ids) / len(batch.ids)
        expected.flat[:] += weight * part.flat
        total += weight * nats
    assert abs(loss - total) < 1e-12
    assert np.abs(final - state).max() < 1e-12
    assert np.abs(grads.flat - expected.flat).max() < 1e-12
    whole = model.params.like()
    model.loss_and_grads(
        packed_batch(np.random.default_rng(0), 7), model.init_state(4), whole, work
    )
    if span < 7:
        assert np.abs(grads["layers.0.W"] - whole["layers.0.W"]).max() > 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_the_symbols_of_a_batch_alone_give_the_gradient_of_a_large_vocabulary(cell, monkeypatch):
    rng, vocab = np.random.default_rng(0), SMALL_VOCABULARY + 6
    config = ModelConfig(cell=cell, hidden_size=5, num_layers=2, vocab_size=vocab)
    model = CharRNN.initialized(config, rng, np.float64)
    batch, found, tables = packed_batch(rng, vocab), [], []
    for small in (0, 10 * vocab):
        monkeypatch.setattr("charrnn.packed.SMALL_VOCABULARY", small)
        grads, work = model.params.like(), Workspace()
        grads.flat[:] = np.nan
        got = model.loss_and_grads(batch, model.init_state(4), grads, work)
        found.append((got[0], model.loss(batch, model.init_state(4), work)[0], grads.flat))
        table = work.child("layer 0")._buffers["table", np.dtype(float)]
        tables.append(table.size)
    assert abs(found[0][0] - found[1][0]) < 1e-12
    assert abs(found[0][1] - found[1][1]) < 1e-9
    assert np.abs(found[0][2] - found[1][2]).max() < 1e-13
    assert tables[1] / tables[0] == vocab / len(np.unique(batch.ids))


def test_a_summed_gradient_moves_a_sentence_as_its_words_do(corpus):
    moved = []
    for summed in (False, True):
        recipe = Recipe.checked(
            {
                "name": "a",
                "data": ["a"],
                "corpus": {"unit": "word"},
                "network": {"cell": "rnn", "hidden_size": 4, "dropout": 0.0},
                "training": {
                    **{"optimizer": "sgd", "learning_rate": 0.001, "schedule": "constant"},
                    **{"warmup_steps": 0, "clip_norm": 0, "batch_size": 1, "averaging": 0},
                    **{"steps": 1, "summed": summed, "truncate": 4},
                },
            }
        )
        run = Run(recipe, corpus)
        before = run.params.flat.copy()
        words = len(run.feed.batch(0).ids)
        run._step()
        moved.append(run.params.flat - before)
    assert words > 2
    assert np.allclose(moved[1], words * moved[0], rtol=1e-2, atol=1e-6)


def test_truncation_is_a_setting_of_the_feed(corpus):
    assert NameFeed(corpus, 4, 0, 4).batch(0).span == 5
    assert NameFeed(corpus, 4, 0).batch(0).span == 0
    assert TrainConfig().truncate is None


# Generation


def test_a_story_is_told_in_sentences(story):
    texts = [sample.text for sample in story.generate(count=30, random_seed=0, temperature=0.3)]
    assert sum(text in LINES for text in texts) > 10
    assert all(text[0].isupper() for text in texts)
    assert story.card()["unit"] == "word"


def test_a_seed_of_words_is_shown_as_it_was_typed(story):
    (sample,) = story.generate("then  ANNA", random_seed=1)
    assert sample.text.startswith("then ANNA ")
    (sample,) = story.generate("Zarquon saw", random_seed=1)
    assert sample.text.startswith("Zarquon saw ")


def test_the_unknown_word_is_never_written():
    g = random_words()
    with np.errstate(all="ignore"):
        bias = g.compiled.out_bias.copy()
    assert bias[g.vocabulary.unknown] > -np.inf
    settings = [{}, {"top_k": 3}, {"top_p": 0.9}, {"temperature": 10.0}, {"temperature": 0.0}]
    for each in settings:
        for sample in g.generate(count=40, random_seed=3, max_length=40, **each):
            assert UNKNOWN not in sample.text


def likely_unknown():
    vocabulary = Vocabulary.of(["aabbc"], ends=False, fewest=2)
    model = frozen("text", vocabulary)
    params = {name: array.copy() for name, array in model.params.items()}
    params["out.c"][vocabulary.unknown] = 8.0
    return Generator(
        "x",
        "0" * 64,
        FrozenModel("text", model.config, type(model.params).from_arrays(params), vocabulary),
    )


@pytest.mark.parametrize(
    "settings", [{}, {"top_k": 1}, {"top_p": 0.5}, {"temperature": 0.0}, {"stop": ("zz",)}]
)
def test_an_unknown_character_that_is_likeliest_is_never_written(settings):
    g = likely_unknown()
    for sample in g.generate("Ü", count=3, max_length=60, random_seed=0, **settings):
        assert sample.text[0] == "Ü"
        assert set(sample.text[1:]) <= {"a", "b"}
        assert len(sample.text) == 60


def test_log_probabilities_are_of_the_network_with_its_unknown_symbol():
    g = likely_unknown()
    (sample,) = g.generate(max_length=20, random_seed=0)
    assert sample.logprob == pytest.approx(g.score(sample.text).logprob, abs=1e-3)
    assert sample.logprob < 20 * np.log(0.1), "the unknown symbol has most of the probability"


def test_so_are_those_of_drafts():
    vocabulary = Vocabulary.of(
        ["rex", "ceratops", "sauro", "xerus"] * 3 + ["q"], ends=True, fewest=2
    )
    model = frozen("names", vocabulary, ["rex"], cell="gru")
    params = {name: array.copy() for name, array in model.params.items()}
    params["out.c"][vocabulary.unknown] = 8.0
    params = type(model.params).from_arrays(params)
    g = Generator("x", "0" * 64, FrozenModel("names", model.config, params, vocabulary, ("rex",)))
    made = g.generate(count=5, contains="xr", ends_with="cc", random_seed=2)
    assert len(made) == 5
    for sample in made:
        assert UNKNOWN not in sample.text
        assert sample.logprob == pytest.approx(g.score(sample.text).logprob, abs=1e-3)


def test_a_text_that_goes_back_is_no_shorter_than_it_must_be():
    bad = min(word for word in Blocklist.shipped().whole if word.isascii())
    v = WordVocabulary.of([f"the cat ran {bad} ."] * 6, largest=100, fewest=1)
    logits = [3.0 if n == v.end else 2.0 if v.symbols[n] == bad else 0.5 for n in range(len(v))]
    model = constant_network(logits)
    g = Generator("x", "0" * 64, FrozenModel("text", model.config, model.params, v))
    made = g.generate(count=100, random_seed=3, min_length=10, max_length=20)
    assert all(10 <= g.length(sample.text) <= 20 for sample in made)
    assert not any(g.blocklist.finds_word(sample.text) for sample in made)
    assert all(sample.text for sample in g.generate(count=100, random_seed=3, max_length=20))


def test_what_is_left_is_drawn_as_the_network_has_it():
    # 4,000 draws of two symbols: a false alarm once in 10^7 (a deviation of 5.4 sigma).
    g = likely_unknown()
    v, n = g.vocabulary, 4000
    logits = next(iter(g.compiled.logits([v.start])))
    a, b = (np.exp(logits[v.symbols.index(s)]) for s in "ab")
    drawn = [sample.text for sample in g.generate(count=n, max_length=1, random_seed=5)]
    p = a / (a + b)
    assert abs(drawn.count("a") / n - p) < 5.4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"temperature": 2.0}])
def test_streamed_pieces_add_up(settings):
    g = random_words()
    config = {"count": 5, "max_length": 30, "random_seed": 9, **settings}
    texts = [""] * 5
    for piece in g.stream("Then Anna", **config):
        texts[piece.index] += piece.text
    assert texts == [sample.text for sample in g.generate("Then Anna", **config)]


@pytest.mark.parametrize("stop", ["aw", "the cat", ". ", "cat saw", "fed us."])
def test_a_stop_string_ends_at_any_letter_of_a_word(stop):
    g = random_words()
    config = {"count": 30, "max_length": 40, "random_seed": 2}
    plain = g.generate(**config)
    met = 0
    for before, sample in zip(plain, g.generate(stop=(stop,), **config), strict=True):
        if stop in before.text:
            met += 1
            assert sample.text == before.text[: before.text.index(stop)]
            assert sample.finish_reason == "stop"
        else:
            assert sample.text == before.text
    assert met or stop == "fed us."


def test_lengths_count_words():
    g = random_words()
    for sample in g.generate("Then Anna", count=20, min_length=9, max_length=12, random_seed=0):
        assert 9 <= g.length(sample.text) <= 12
    with pytest.raises(ConfigError, match=r"the seed's length \(3\)"):
        g.generate("one two three", max_length=2)


def test_the_same_seed_gives_the_same_words_in_a_busy_batch():
    g = random_words(hidden=32)
    configs = [
        GenerationConfig.checked(
            {"count": 1 + k % 5, "random_seed": k, "max_length": 9 + k, **more}
        )
        for k in range(24)
        for more in ({}, {"top_k": 7})
    ]
    together = g.generate_many([("Then", config) for config in configs])
    for config, samples in zip(configs, together, strict=True):
        assert list(g.generate("Then", config=config)) == list(samples)


def test_thousands_of_symbols_are_drawn_alike_alone_and_together():
    vocabulary = Vocabulary.of(["".join(map(chr, range(0x4E00, 0x4E00 + 4000)))], ends=False)
    g = generator(frozen("text", vocabulary))
    for settings in ({}, {"top_k": 50}, {"top_p": 0.8}):
        one = g.generate(max_length=20, random_seed=1, count=1, **settings)[0]
        many = g.generate(max_length=20, random_seed=1, count=5, **settings)
        assert many[0] == one
        pieces = [p.text for p in g.stream(max_length=20, random_seed=1, **settings)]
        assert "".join(pieces) == one.text


def test_a_batch_of_a_large_vocabulary_keeps_its_arrays_in_bounds():
    vocabulary = Vocabulary.of(["".join(map(chr, range(0x4E00, 0x4E00 + 8000)))], ends=False)
    g = generator(frozen("text", vocabulary, hidden=4))
    batch = DecodeBatch(CompiledModel(g.model), 64)
    assert batch._noise.nbytes <= 64 * batch.most_steps * 8000 * 4
    assert batch.most_steps == 16


def test_score_counts_words(story):
    score = story.score("Anna saw it.")
    assert [symbol.symbol for symbol in score.symbols] == ["Anna", "saw", "it", ".", "\n"]
    assert story.score("Zarquon saw it.").symbols[0].symbol == UNKNOWN


# Commands


def cli(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands_work_on_words(text, tmp_path):
    weights = tmp_path / "w"
    done = cli(
        *("train", text, "--unit", "word", "--weights", weights, "--hidden-size", 8),
        *("--steps", 30, "--learning-rate", 0.02),
    )
    assert done.exit_code == 0, done.output
    assert "nats per word on" in done.output
    assert "sentences" in done.output
    done = cli("sample", "story", "--weights", weights, "--seed", "Then Anna", "--count", 2)
    assert done.exit_code == 0, done.output
    assert [line[:9] for line in done.stdout.splitlines()] == ["Then Anna"] * 2
    done = cli("evaluate", "story", "--weights", weights)
    assert "nats/word" in done.output
    assert "sentences" in done.output
    assert "sentences" in cli("models", "--weights", weights).output


def test_a_model_of_words_is_trained_again_and_judged(text, tmp_path):
    story = tmp_path / "story.txt"
    story.write_bytes(text.read_bytes())
    recipe = Recipe.checked(
        {
            "name": "story",
            "data": [str(story)],
            "corpus": {"unit": "word"},
            "network": {"hidden_size": 8, "dropout": 0.0},
            "training": {"steps": 30, "learning_rate": 0.02},
            "gate": {"samples": 20, "most_duplicates": 1.0, "most_repeating": 1.0},
        }
    )
    store = Store(tmp_path / "w")
    train(recipe, tmp_path, store)
    more = [f"{s[:-1]} again." for s in SENTENCES]
    story.write_text(" ".join([*LINES, *more]), encoding="utf-8")
    outcome = retrain("story", store)
    assert outcome.verdict
    live = outcome.verdict.live
    assert live
    # Sentences with the new word can't be compared: the old version doesn't know it.
    assert live.left_out > 0
    assert live.sequences + live.left_out == 0 or np.isfinite(live.loss)


# Seen by looking


def test_rare_characters_are_folded_in_long_text_alone(tmp_path):
    path = tmp_path / "a.txt"
    line = "The quick brown fox jumps over the lazy dog, and then does it again.\n"
    path.write_text(line * 1600 + "§\n")
    corpus = load_corpus([path], CorpusConfig())
    assert "§" not in corpus.vocabulary.known_characters
    assert corpus.vocabulary.unknown is not None
    assert load_corpus([path], CorpusConfig(fewest=1)).vocabulary.unknown is None
    path.write_text(line * 60 + "§\n")
    assert load_corpus([path], CorpusConfig()).vocabulary.unknown is None


def test_words_of_a_sentence_follow_each_other(corpus):
    feed = NameFeed(corpus, 4, 0)
    batch = feed.batch(0)
    known = {
        pair
        for s in corpus.sequences["train"]
        for pair in pairwise([0, *corpus.vocabulary.ids_of(s).tolist(), 0])
    }
    assert set(zip(batch.ids.tolist(), batch.targets.tolist(), strict=True)) <= known


def test_the_card_is_json(story):
    assert json.loads(json.dumps(story.card()))["vocabulary"] == len(story.vocabulary)
