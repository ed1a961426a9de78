"""The vocabulary of words: which are kept, how they are written, and what a file may say of it."""

import json

import numpy as np
import pytest

from charrnn.errors import WeightsFormatError
from charrnn.vocabulary import END, UNKNOWN, Vocabulary
from charrnn.wordlist import WordVocabulary, vocabulary_from_json

TEXT = [
    "The cat saw Anna, and I saw the dog.",
    "Then Anna saw the cat (and the dog)!",
    "A dog saw I, but Anna: No.",
    "So Anna said: Go.",
]


def of(texts=TEXT, **settings):
    return WordVocabulary.of(texts, **{"largest": 100, "fewest": 1, **settings})


def test_the_most_frequent_words_are_kept_and_the_rest_is_one():
    vocabulary = of(largest=5)
    assert vocabulary.symbols[:2] == (END, UNKNOWN)
    assert set(vocabulary.symbols[2:]) == {"saw", "the", "Anna"}
    assert vocabulary.ids_of("the zebra saw").tolist().count(vocabulary.unknown) == 1


def test_words_that_are_too_rare_are_not_kept():
    assert "but" in of(fewest=1).symbols
    assert "but" not in of(fewest=2).symbols


def test_a_word_is_written_as_it_mostly_is_in_the_midst_of_a_sentence():
    symbols = of().symbols
    assert {"the", "Anna", "I", "then", "a"} <= set(symbols)
    assert of().ids_of("THE anna").tolist() == of().ids_of("the Anna").tolist()


def test_capitals_come_at_the_beginning_and_behind_marks_that_have_them():
    vocabulary = of()
    assert vocabulary.decode(vocabulary.ids_of("then anna said: go.")) == "Then Anna said: Go."


def test_letters_are_kept_where_the_case_is():
    vocabulary = of(case="keep")
    assert vocabulary.unknown in vocabulary.ids_of("the ANNA")
    assert vocabulary.decode(vocabulary.ids_of("the cat")) == "the cat"


def test_a_seed_is_shown_as_it_was_typed_and_unknown_words_are_read_as_one():
    vocabulary = of()
    text, ids = vocabulary.read("  Zarquon  saw\nthe ")
    assert text == "Zarquon saw the"
    assert ids.tolist() == [1, *vocabulary.ids_of("saw the")]


def test_the_replacement_character_is_unknown_and_no_word():
    assert of(["\ufffd and \ufffd and"]).symbols == (END, UNKNOWN, "and")


def test_chinese_is_joined_without_spaces():
    vocabulary = of(["我是学生。", "你是我。"])
    assert vocabulary.decode(vocabulary.ids_of("我是学生。")) == "我是学生。"


def test_it_comes_back_from_json():
    vocabulary = of()
    again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "syllable"},
        {"unit": None},
        {"symbols": []},
        {"symbols": None},
        {"symbols": "abc"},
        {"symbols": ["a", "a"]},
        {"symbols": ["a", "A"]},
        {"symbols": ["a b"]},
        {"symbols": ["a\n"]},
        {"symbols": ["", "b"]},
        {"symbols": ["x" * 61]},
        {"symbols": [1]},
        {"symbols": [UNKNOWN]},
        {"case": "title"},
        {"case": None},
        {"capital": [0]},
        {"capital": [1000]},
        {"glued_before": [True]},
        {"glued_behind": None},
        {"glued_to_marks": [1.5]},
    ],
)
def test_what_is_no_vocabulary_of_words_is_refused(change):
    with pytest.raises(WeightsFormatError, match="vocabulary"):
        vocabulary_from_json({**of().to_json(), **change})


# Characters


def test_rare_characters_become_one_unknown_symbol():
    vocabulary = Vocabulary.of(["aaabbb\n", "abx\n"], ends=False, fewest=2)
    assert vocabulary.known_characters == "\nab"
    assert vocabulary.ids_of("axZ").tolist() == [*vocabulary.ids_of("a"), *[vocabulary.unknown] * 2]
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    long = "ax" * 200
    assert np.array_equal(vocabulary.ids_of(long), np.tile(vocabulary.ids_of("ax"), 200))


def test_nothing_is_unknown_where_nothing_is_rare():
    assert Vocabulary.of(["aabb"], ends=False, fewest=2).unknown is None


@pytest.mark.parametrize("unknown", [0, True, "1", 99, None])
def test_an_unknown_symbol_that_is_none_is_refused(unknown):
    data = Vocabulary.of(["aabbx"], ends=False, fewest=2).to_json()
    with pytest.raises(WeightsFormatError):
        Vocabulary.from_json({**data, "unknown": unknown})
