"""Lengths of names are conditions on whole names; of texts, and where it is asked for, they cut."""

import pytest

from charrnn.config import LONGEST_SHAPED
from charrnn.errors import ConfigError
from charrnn.generator import Generator
from charrnn.vocabulary import Vocabulary
from tests.exact import abra, assert_drawn_from, every_name, given
from tests.models import VERSION, frozen, generator, names_model, running

RAW = {"novel": False, "unique": False, "clean": False}


@pytest.mark.parametrize("shortest", [0, 3])
def test_names_within_lengths_come_from_free_sampling_given_that_they_end(shortest):
    """A false alarm comes once in a million runs."""
    made = abra()
    expected = given(every_name(made, 4), lambda name: len(name) >= shortest)
    samples = made.generate(count=300, random_seed=2, min_length=shortest, max_length=4, **RAW)
    assert {sample.finish_reason for sample in samples} == {"end"}
    assert_drawn_from([sample.text for sample in samples], expected)


def test_cutting_would_be_another_distribution():
    """The test above can fail."""
    expected = given(every_name(abra(), 4), lambda name: True)
    samples = abra().generate(count=300, random_seed=2, max_length=4, whole=False, **RAW)
    assert {sample.finish_reason for sample in samples} == {"end", "length"}
    with pytest.raises(AssertionError):
        assert_drawn_from([sample.text for sample in samples], expected)


@pytest.mark.parametrize(
    "settings",
    [{}, {"min_length": 1}, {"temperature": 0}, {"stop": ("z",)}, {"whole": False}],
    ids=str,
)
def test_what_gives_no_lengths_or_is_no_plain_draw_is_cut(settings):
    longest = {} if settings in ({}, {"min_length": 1}) else {"max_length": 4}
    request = abra().request("ab", **longest, **settings)
    assert request.lookahead is None
    assert not request.searched


def test_names_longer_than_a_shape_may_be_are_cut_and_asked_for_outright_refused():
    longer = LONGEST_SHAPED + 1
    assert abra().request(max_length=LONGEST_SHAPED).lookahead
    assert abra().request(max_length=longer).lookahead is None
    with pytest.raises(ConfigError, match=f"max_length must be at most {LONGEST_SHAPED}"):
        abra().request(max_length=longer, whole=True)


def test_a_seed_with_an_unknown_symbol_goes_on_as_ever():
    vocabulary = Vocabulary.of(["aab", "bac"], ends=True, fewest=2)
    made = Generator("tiny", VERSION, frozen("names", vocabulary, ("aab", "bac")))
    assert made.request("a", max_length=6).lookahead
    request = made.request("a!", max_length=6)
    assert (vocabulary.unknown in request.prompt, request.lookahead) == (True, None)


def test_whole_names_at_temperature_0_are_searched_for():
    made = generator(names_model(("Abra", "Barra"), end_logit=-3))
    (cut,) = made.generate(temperature=0, max_length=3, whole=False)
    (whole,) = made.generate(temperature=0, max_length=3, whole=True)
    assert (cut.finish_reason, whole.finish_reason) == ("length", "end")
    free = [sample.text for sample in made.generate(temperature=0, whole=True)]
    assert free == [sample.text for sample in made.generate(temperature=0)]


def test_names_are_whole_however_unlikely_their_end():
    samples = abra(end_logit=-200).generate(count=2, max_length=5)
    assert [sample.finish_reason for sample in samples] == ["end", "end"]


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        (running, {"whole": True}, "whole must be left out: this model writes running text"),
        (abra, {"whole": True, "stop": ("a",)}, "stop must be left out with whole"),
        (abra, {"whole": 1}, "whole must be true or false"),
    ],
)
def test_what_is_whole_must_be_names_that_end_by_themselves(made, settings, message):
    with pytest.raises(ConfigError, match=message):
        made().generate(**settings)


def test_running_text_takes_a_no():
    assert len(running().generate(whole=False, max_length=5)[0].text) == 5


def test_many_different_names_are_found_within_lengths_that_most_names_have():
    """Of 120 there are; free tries go on where they are refused for being alike."""
    request = abra().request(count=80, max_length=4, novel=False)
    assert request.tries[0] >= 64
    samples = abra().generate(count=80, random_seed=1, max_length=4, novel=False)
    assert len({sample.text for sample in samples}) == 80
