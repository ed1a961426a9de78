"""Which names are kept: none refused, no two alike, the same in whichever order tries end."""

import random

import pytest

from charrnn.conditions import Conditions, Names
from charrnn.errors import ConfigError
from charrnn.selection import Selection
from charrnn.texts import Candidate
from tests.exact import ABRA, abra
from tests.models import running

FEW = ["a", "b", "ab", "ba"]


def outcome(count, tries, order_seed, conditions):
    """The names that are kept, where try a of sample i is a fixed name, and tries end in an order
    that chance makes.
    """
    rng = random.Random(order_seed)
    selection = Selection(conditions, count, tries, tries)
    pending, kept = [(index, 0) for index in range(count)], {}
    while not selection.is_over:
        index, attempt = pending.pop(rng.randrange(len(pending)))
        name = random.Random(1000 * index + attempt).choice(FEW)
        pending += selection.offer(index, attempt, [Candidate(name, 0.0, "end")])
        for final, each in selection.take():
            assert final == len(kept)
            kept[final] = each.text
    return list(kept.values()), selection.shortfall()


def test_the_order_in_which_tries_end_does_not_matter():
    conditions = Conditions(unique=True, avoid=frozenset({"ba"}))
    outcomes = {tuple(outcome(3, 40, seed, conditions)[0]) for seed in range(50)}
    assert len(outcomes) == 1
    assert set(*outcomes) == {"a", "b", "ab"}


def test_nor_does_it_for_why_there_are_fewer():
    conditions = Conditions(unique=True, avoid=frozenset({"ba"}))
    whys = {outcome(8, 20, seed, conditions)[1] for seed in range(50)}
    assert len(whys) == 1
    assert "unique" in (why := whys.pop())
    assert "avoid" in why


def test_a_sample_is_the_first_of_its_tries_that_nobody_before_it_has():
    conditions, expected = Conditions(unique=True), []
    for index in range(4):
        tries = (random.Random(1000 * index + attempt).choice(FEW) for attempt in range(100))
        expected.append(next(name for name in tries if name not in expected))
    assert outcome(4, 100, 0, conditions) == (expected, None)


def test_the_answer_ends_before_the_first_name_that_is_not_found():
    names, why = outcome(6, 50, 0, Conditions(unique=True))
    assert sorted(names) == sorted(FEW)
    assert why.startswith("2 of 6 texts could not be found: 50 tries of one gave none")
    assert "unique" in why


def test_a_name_is_compared_with_the_list_as_the_model_reads_it():
    conditions = Conditions(names=Names(["rex"]), avoid=frozenset({"tor"}))
    assert conditions.refusal("rex", ends=True) == "novel"
    assert conditions.refusal("tor", ends=True) == "avoid"
    assert conditions.refusal("rext", ends=True) is None


@pytest.mark.parametrize(("most", "refused"), [(0.74, True), (0.75, False), (1.0, False)])
def test_similarity_is_one_less_the_edits_over_the_longer_length(most, refused):
    names = Names(["rexa"])
    conditions = Conditions(max_similarity=most, listed=names)
    assert (conditions.refusal("rext", ends=True) == "max_similarity") is refused


def test_names_are_novel_unique_and_clean_by_default():
    samples = abra().generate(count=40, max_length=8, random_seed=1)
    texts = [sample.text for sample in samples]
    assert len(set(texts)) == len(texts) == 40
    assert not set(texts) & set(ABRA)
    plain = abra().generate(count=40, max_length=8, random_seed=1, novel=False, unique=False)
    assert len({sample.text for sample in plain}) < 40


def test_a_larger_count_only_adds_names():
    made = abra()
    few, many = (made.generate(count=n, max_length=6, random_seed=3) for n in (5, 30))
    assert list(few) == list(many)[:5]


def test_at_temperature_0_there_is_one_name_and_a_shortfall():
    samples = abra().generate(count=3, temperature=0, novel=False)
    assert len(samples) == 1
    assert samples.shortfall.startswith("2 of 3 texts could not be found: 1 try of one")


@pytest.mark.parametrize(
    ("temperature", "remedy"),
    [
        (0.001, "Ask for fewer, for less, or a higher temperature"),
        (1, "Ask for fewer, or for less"),
    ],
)
def test_below_temperature_1_a_shortfall_says_that_a_higher_one_gives_more(temperature, remedy):
    samples = abra().generate(count=30, max_length=2, temperature=temperature, random_seed=1)
    assert samples.shortfall.endswith(remedy)


def test_what_is_avoided_does_not_come_whatever_its_capitals():
    made = abra()
    first = made.generate(count=1, random_seed=1)[0].text
    other = made.generate(count=1, random_seed=1, avoid=[first.upper()])[0].text
    assert other != first


def test_a_stream_has_whole_names_only_in_order():
    made = abra()
    pieces = list(made.stream("a", count=6, random_seed=2))
    samples = made.generate("a", count=6, random_seed=2)
    assert [piece.text for piece in pieces] == [sample.text for sample in samples]
    assert [piece.sample for piece in pieces] == list(samples)


@pytest.mark.parametrize(
    "settings", [{"novel": True}, {"unique": True}, {"avoid": ["x"]}, {"ends_with": "a"}]
)
def test_running_text_has_no_conditions_of_names(settings):
    with pytest.raises(ConfigError, match="running text, not names"):
        running().generate(**settings)


def test_a_sample_that_is_final_leaves_nothing_behind():
    """Not even one whose first try came to no name, or to one that was refused."""
    name, ba = Candidate("a", 0.0, "end"), Candidate("ba", 0.0, "end")
    selection = Selection(Conditions(unique=True, avoid=frozenset({"ba"})), 3, 8, 8)
    empty = [held for held in vars(selection).values() if isinstance(held, dict)]
    for index, first in ((0, []), (1, [ba])):
        assert selection.offer(index, 0, first) == [(index, 1)]
        assert selection.offer(index, 1, [name._replace(text="ab"[index])]) == []
    assert [index for index, _ in selection.take()] == [0, 1]
    holders = selection._holders
    assert [held for held in empty if held and held is not holders] == []
