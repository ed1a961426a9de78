"""The automaton of a shape accepts what the plain words of its condition say, and nothing else."""

import fnmatch
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn import shapes
from charrnn.conditions import Conditions
from charrnn.config import LONGEST_SHAPED, GenerationConfig
from charrnn.errors import ConfigError
from charrnn.shapes import MOST_STATES, compile_shape
from charrnn.vocabulary import Vocabulary

ABC = Vocabulary.of(["abc"], ends=True)
WORDS = ["".join(letters) for size in range(1, 6) for letters in product("abc", repeat=size)]
TEXT = st.text("abc", min_size=1, max_size=3)
PATTERN = st.text("abc*?[]!-", min_size=1, max_size=7)


def accepted(shape):
    return {word for word in WORDS if shape.is_met(ABC.encode(word).tolist())}


def compiled(seed="", longest=5, vocabulary=ABC, **conditions):
    return compile_shape(GenerationConfig.checked(conditions), seed, vocabulary, longest)


@settings(max_examples=150, deadline=None)
@given(pattern=PATTERN)
def test_a_pattern_matches_what_fnmatch_matches(pattern):
    expected = {word for word in WORDS if fnmatch.fnmatchcase(word, pattern)}
    try:
        found = accepted(compiled(pattern=pattern))
    except ConfigError as error:
        refused = str(error)
        assert not expected or "knows" in refused
        return
    assert found == expected


@pytest.mark.parametrize(
    ("asked", "is_of_lengths"),
    [
        ({"max_length": 4}, True),
        ({"min_length": 2, "max_length": 3}, True),
        ({"min_length": 2, "exclude_letters": "b"}, False),
        ({"contains": "a"}, False),
        ({"pattern": "??"}, False),
    ],
)
def test_lengths_alone_need_no_automaton(asked, is_of_lengths):
    shape = compiled(**asked)
    assert shape.is_of_lengths == is_of_lengths
    wanted = Conditions(shape=shape, vocabulary=ABC)
    assert {word for word in WORDS if wanted.refusal(word, True) is None} == accepted(shape)
    assert wanted.refusal(WORDS[5], False) == "the shape"


@pytest.mark.parametrize("bracket", ["[%sa]", "[%sab]", "[%sb-c]", "[%s]a]"])
def test_a_bracket_is_turned_round_as_any_shell_does_it(bracket):
    marked = accepted(compiled(pattern="*" + bracket % "^"))
    assert marked == accepted(compiled(pattern="*" + bracket % "!"))
    assert marked != accepted(compiled(pattern="*" + bracket % ""))


@settings(max_examples=100, deadline=None)
@given(
    ends_with=st.none() | TEXT,
    contains=st.none() | TEXT,
    exclude_letters=st.none() | st.text("abc", min_size=1, max_size=2),
    min_length=st.integers(0, 5),
    max_length=st.integers(1, 5),
    seed=st.text("abc", max_size=2),
)
def test_conditions_together_accept_what_each_of_them_does(
    ends_with, contains, exclude_letters, min_length, max_length, seed
):
    if min_length > max_length:
        return
    conditions = {
        "ends_with": ends_with,
        "contains": contains,
        "exclude_letters": exclude_letters,
        "min_length": min_length,
        "max_length": max_length,
    }
    given_ = {name: value for name, value in conditions.items() if value is not None}
    expected = {
        word
        for word in WORDS
        if word.endswith(ends_with or "")
        and (contains or "") in word
        and not set(exclude_letters or "") & set(word)
        and min_length <= len(word) <= max_length
        and word.startswith(seed)
    }
    try:
        shape = compiled(seed, **given_)
    except ConfigError:
        assert not expected
        return
    assert expected == {word for word in accepted(shape) if word.startswith(seed)}


def test_whoever_follows_what_can_be_met_ends_with_an_accepted_name():
    shape = compiled(pattern="?*ab[!a]", max_length=5, min_length=4)
    rng = np.random.default_rng(0)
    for _ in range(300):
        q, ids = shape.begin, []
        while not (shape.may_end(len(ids))[q] and (len(ids) == 5 or rng.random() < 0.3)):
            nexts = shape.next[q]
            after = np.flatnonzero((nexts >= 0) & shape.can[min(len(ids) + 1, 5)][nexts])
            if shape.may_end(len(ids))[q] and not len(after):
                break
            assert len(ids) < 5
            assert len(after)
            ids.append(int(rng.choice(after)))
            q = int(shape.next[q, ids[-1]])
        assert fnmatch.fnmatchcase(ABC.decode(ids), "?*ab[!a]")
        assert 4 <= len(ids) <= 5


@pytest.mark.parametrize(
    ("seed", "conditions", "message"),
    [
        (
            "",
            {"ends_with": "ab", "exclude_letters": "b", "min_length": 3},
            "ends_with can't be met together with exclude_letters ('b'): change one of them, got "
            "'ab'",
        ),
        (
            "",
            {"contains": "abc", "max_length": 2},
            "contains can't be met together with max_length (2): change one of them, got 'abc'",
        ),
        (
            "b",
            {"pattern": "a*", "ends_with": "c"},
            "pattern can't be met together with seed ('b'): change one of them, got 'a*'",
        ),
        (
            "",
            {"pattern": "a?", "contains": "bb", "ends_with": "a"},
            "contains can't be met together with pattern ('a?'): change one of them, got 'bb'",
        ),
        (
            "",
            {"exclude_letters": "abc"},
            "exclude_letters can't be met by any name of this model: change it, got 'abc'",
        ),
        (
            "",
            {"ends_with": "ax"},
            "ends_with must have only characters that this model knows, 'abc'; it has 'x', got "
            "'ax'",
        ),
    ],
)
def test_what_can_not_be_met_names_a_smallest_conflict(seed, conditions, message):
    with pytest.raises(ConfigError) as caught:
        compiled(seed, **conditions)
    assert str(caught.value) == message


def test_a_pattern_of_too_many_states_is_refused_before_it_takes_long():
    with pytest.raises(ConfigError, match="pattern is too complicated"):
        compiled(pattern="*[ab]" + "?" * 20, longest=40)
    assert len(compiled(pattern="*a*b*c*a*b*c", longest=40).next) < 20 < MOST_STATES


def test_what_a_condition_does_not_tell_apart_is_tried_once(monkeypatch):
    letters = [chr(0x4E00 + n) for n in range(3_000)]
    vocabulary, tried, step = Vocabulary.of(letters, ends=True), [], shapes._product

    def counted(automata, symbols):
        tried.append(len(symbols))
        return step(automata, symbols)

    monkeypatch.setattr(shapes, "_product", counted)
    a, b, c, d, *_ = letters
    shape = compiled(pattern=f"*[{a}{b}]??", ends_with=c, exclude_letters=d, vocabulary=vocabulary)
    assert tried == [3]
    assert shape.is_met(vocabulary.encode(letters[9] + b + a + c).tolist())
    for name in (letters[9] + c + a + c, a + a + b, a + d + c):
        assert not shape.is_met(vocabulary.encode(name).tolist())
    assert (shape.next[:, [vocabulary.end, vocabulary.encode(d)[0]]] == -1).all()
    with pytest.raises(ConfigError, match="is too complicated"):
        compiled(pattern=f"*[{a}{b}]" + "?" * 12, longest=40, vocabulary=vocabulary)
    assert tried[1:] == [2]


def test_a_shape_of_long_names_is_refused():
    with pytest.raises(ConfigError, match=f"max_length must be at most {LONGEST_SHAPED}"):
        compiled(ends_with="a", max_length=LONGEST_SHAPED + 1)


def test_a_shape_needs_symbols_of_one_character_and_an_end():
    with pytest.raises(ConfigError, match="needs a model of names"):
        compiled(ends_with="a", vocabulary=Vocabulary.of(["abc"], ends=False))
