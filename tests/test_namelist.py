"""Long lists of names: as a tuple in every way, in fewer bytes."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn import conditions, corpus, namelist, splits
from charrnn.conditions import Names
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.generator import Generator
from charrnn.lookahead import LetterRuns
from charrnn.namelist import NameList, from_text, in_chunks, kept, to_text
from charrnn.outcomes import Changes
from charrnn.splits import SPLITS, split
from charrnn.training import Run
from charrnn.vocabulary import Vocabulary
from charrnn.weights import from_bytes, to_bytes
from tests.builders import frozen, made_up
from tests.training_runs import name_list, small_recipe

NAMES = st.text(st.characters(exclude_characters="\n", exclude_categories=[]), min_size=1)


@pytest.fixture
def as_many(monkeypatch):
    """Three names are many."""
    monkeypatch.setattr(namelist, "MANY_NAMES", 3)
    monkeypatch.setattr(splits, "MANY_NAMES", 3)
    monkeypatch.setattr(namelist, "AT_ONCE", 2)


@given(st.lists(NAMES, min_size=1, max_size=30))
def test_a_list_is_as_its_tuple(names):
    made = NameList.of(names)
    assert list(made) == names
    assert [made[k] for k in range(-len(names), len(names))] == names + names
    assert made[1:5] == tuple(names[1:5])
    assert made == tuple(names) == tuple(made)
    assert all(name in made for name in names)
    for other in ("", "\n", *(name + "x" for name in names), "\n".join(names)):
        assert (other in made) == (other in names)
    assert [name for some in in_chunks(made) for name in some] == names
    with pytest.raises(IndexError):
        made[len(names)]


def test_names_of_one_hash_are_told_apart(monkeypatch):
    made = NameList.of(["ab", "cd", "ef", "gh"])
    monkeypatch.setattr(namelist, "hash", lambda _: 7, raising=False)
    assert all(name in made for name in ("ab", "cd", "ef", "gh"))
    assert "xy" not in made


def test_a_list_takes_less_than_half_of_a_tuple_and_a_set():
    names = [f"name {k * k}" for k in range(20_000)]
    text, held = "\n".join(names).encode(), []
    for make in (lambda: Names(tuple(text.decode().split("\n"))), lambda: Names(NameList(text))):
        tracemalloc.start()
        found = make()
        assert names[5] in found.all
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del found
    assert held[1] < 0.4 * held[0]


def test_short_lists_stay_tuples():
    names = made_up(50)
    assert kept(names) == tuple(names)
    assert from_text(to_text(names)) == tuple(names)
    assert from_text(b"") == ()


def test_a_model_of_many_names_answers_as_with_few(as_many, tmp_path, monkeypatch):
    path = tmp_path / "names.txt"
    path.write_text(name_list(120))
    recipe = small_recipe("names", steps=10)
    corpora, results = [], []
    for large in (10**9, 3):
        monkeypatch.setattr(namelist, "MANY_NAMES", large)
        monkeypatch.setattr(splits, "MANY_NAMES", large)
        monkeypatch.setattr(corpus, "LARGE_TEXT", 0 if large == 3 else 10**9)
        corpora.append(load_corpus([path], CorpusConfig()))
        results.append(Run(recipe, corpora[-1]).train())
    few, many = corpora
    assert isinstance(many.names, NameList)
    assert isinstance(many.sequences["train"], NameList)
    assert [list(few.sequences[s]) for s in SPLITS] == [list(many.sequences[s]) for s in SPLITS]
    assert few.summary() == many.summary()
    assert results[0].data == results[1].data
    model = from_bytes(results[1].data)
    assert isinstance(model.names, NameList)
    assert to_bytes(model) == results[0].data
    known = few.names[7]
    asked = [
        {"count": 20, "random_seed": 4},
        {"count": 5, "random_seed": 4, "max_similarity": 0.5},
        {"count": 3, "random_seed": 4, "ends_with": known[-1]},
    ]
    answers = []
    for each in (replace(model, names=few.names), model):
        generator = Generator("names", "", each)
        answers.append([generator.generate(**settings) for settings in asked])
        answers[-1] += [generator.score(known), generator.beam(count=3), generator.card()]
        answers[-1] += [Names(each.names).nearest(known), Names(each.names).nearest("zzz")]
    assert answers[0] == answers[1]
    assert answers[0][-2] == 0


@pytest.mark.parametrize("order", ["hash", "order"])
def test_many_names_fall_on_the_sides_of_few(order, as_many):
    names, config = made_up(200), CorpusConfig(split_by=order)
    few, many = split(tuple(names), config), split(NameList.of(names), config)
    assert {side: tuple(own) for side, own in many.items()} == few


def test_letters_are_counted_as_in_one_go(monkeypatch):
    from charrnn import lookahead

    names = made_up(300)
    vocabulary = Vocabulary.of(names, ends=True)
    whole = LetterRuns(names, vocabulary)
    monkeypatch.setattr(lookahead, "COUNTED_AT_ONCE", 7)
    parts = LetterRuns(NameList.of(names), vocabulary)
    for order in range(3):
        assert np.array_equal(whole.probabilities(order, 1.0), parts.probabilities(order, 1.0))
    text = "\n\n" + "\n".join(names) + "\n"  # by hand: what follows two letters of one name
    runs = whole._counts(2).reshape((len(vocabulary),) * 3)
    a, b, c = vocabulary.ids_of(names[0][:3])
    assert runs[a, b, c] == sum(names[k].count(names[0][:3]) for k in range(len(names))) > 0
    assert runs.sum() == len(text) - 2


def test_what_came_and_went_is_told_of_many_names_too(as_many):
    before = frozen()
    names = ("allo", "tarbo-rex", "diplo", "zupa")
    after = type("Corpus", (), {"vocabulary": before.vocabulary, "names": names})
    few = Changes.since(before, after)
    assert few == Changes(("Diplo", "Zupa"), ("Brachio",))
    after.names = NameList.of(names)
    assert Changes.since(replace(before, names=NameList.of(before.names)), after) == few


def test_nearest_of_an_empty_list_is_as_far_as_can_be():
    assert conditions.Names(()).nearest("x") == 1.0
    assert not conditions.Names(()).are_near("x", 0.1)
