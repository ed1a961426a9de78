"""The most probable names are those of an enumeration, in its order; scores add up to theirs."""

import math

import pytest

from charrnn import beam
from charrnn.errors import ConfigError, UnknownCharacterError
from tests.exact import ABRA, abra, every_name
from tests.models import running


def unconstrained(made, longest, before=""):
    """{name: log-probability}, where the end may come at once: as scores have it."""
    names = every_name(made, longest, before=before)
    return {name: made.score(name).logprob - prefix(made, before) for name in names}


def prefix(made, before):
    return math.fsum(s.logprob for s in made.score(before).symbols[:-1]) if before else 0.0


@pytest.mark.parametrize(
    ("seed", "settings", "accepts"),
    [
        ("", {"novel": False}, lambda name: True),
        ("", {}, lambda name: name.title() not in ABRA),
        ("ab", {"ends_with": "a"}, lambda name: name.endswith("a") and name.title() not in ABRA),
        ("", {"min_length": 4, "avoid": ["Aaaa"]}, lambda n: len(n) > 3 and n.title() not in ABRA),
    ],
)
def test_the_names_are_those_of_enumeration_in_order(seed, settings, accepts):
    made = abra(seed=2)
    names = unconstrained(made, 5, seed)
    accepted = {name: value for name, value in names.items() if accepts(name) and name != "aaaa"}
    expected = sorted(accepted, key=accepted.__getitem__, reverse=True)[:8]
    found = made.beam(seed, count=8, max_length=5, **{"avoid": ["aaaa"], **settings})
    assert [sample.text.lower() for sample in found] == expected
    for sample in found:
        assert sample.logprob == pytest.approx(accepted[sample.text.lower()], abs=1e-4)
    assert found.shortfall is None


def test_all_names_there_are_is_an_answer():
    found = abra().beam(count=50, max_length=2, novel=False)
    assert len(found) == 3 + 9
    assert found.shortfall == "there are no more than 12 such names"


def test_a_search_that_is_ended_says_what_is_proven(monkeypatch):
    monkeypatch.setattr(beam, "MOST_BEGINNINGS", 40)
    found = abra().beam(count=50, max_length=8, novel=False)
    assert 0 < len(found) < 50
    least = found[-1].logprob
    monkeypatch.undo()
    whole = abra().beam(count=50, max_length=8, novel=False)
    assert list(whole)[: len(found)] == list(found)
    assert whole[len(found)].logprob <= least
    assert "could not be proven to come next" in found.shortfall
    assert len(abra().beam(count=5, goes_on=lambda: False)) == 0


def test_running_text_has_no_most_probable_texts():
    with pytest.raises(ConfigError, match="running text, not names"):
        running().beam()


def test_a_score_is_the_same_alone_and_among_others():
    made = abra()
    texts = ["Abra", "b", "Barbarabarbara", "Raab"]
    assert made.score_many(texts) == [made.score(text) for text in texts]


def test_a_score_tells_what_was_expected_and_how_much():
    score = abra().score("Abra", expected=4)
    assert [symbol.symbol for symbol in score.symbols] == [*"abra", "\n"]
    for symbol in score.symbols:
        chances = [each.probability for each in symbol.expected]
        assert chances == sorted(chances, reverse=True)
        assert math.fsum(chances) == pytest.approx(1)
        assert dict(symbol.expected)[symbol.symbol] == pytest.approx(symbol.probability)
        assert symbol.likeliest == symbol.expected[0].symbol


def test_likelier_than_counts_the_names_of_higher_perplexity():
    made = abra()
    perplexities = {name: made.score(name).perplexity for name in ABRA}
    for name, own in perplexities.items():
        above = sum(other > own * (1 + 1e-9) for other in perplexities.values())
        assert made.score(name).likelier_than == pytest.approx(above / len(ABRA))
    assert running().score("abc").likelier_than is None


@pytest.mark.parametrize("expected", [-1, 21, 1.5, True, None])
def test_how_many_are_expected_is_checked(expected):
    with pytest.raises(ConfigError, match="expected must be from 0 to 20"):
        abra().score("Abra", expected=expected)


def test_a_text_with_an_unknown_character_is_refused():
    with pytest.raises(UnknownCharacterError):
        abra().score_many(["Abra", "Zoe"])
