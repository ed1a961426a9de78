"""Names of a shape at temperature 0 are the limit of what is drawn, as the temperature falls."""

import pytest

from charrnn import beam, coldest
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError
from tests.exact import ABRA, abra, every_name
from tests.models import running

COLD = 0.01  # at which the probability of a name is e^(-100) for a nat of its deficit


def cold(made, accepts, longest=6, before="", **settings):
    """The names that are accepted by falling probability, drawn freely and all but cold."""
    config = GenerationConfig(temperature=COLD, **settings)
    names = every_name(made, longest, config, before)
    kept = {name: chance for name, chance in names.items() if chance and accepts(name)}
    return sorted(kept, key=kept.__getitem__, reverse=True)


def found(samples):
    return [sample.text.lower() for sample in samples]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("before", "settings", "accepts"),
    [
        ("", {"ends_with": "ra", "novel": False}, lambda name: name.endswith("ra")),
        ("", {"ends_with": "b"}, lambda n: n.endswith("b") and n.title() not in ABRA),
        ("ba", {"contains": "rr", "novel": False}, lambda name: "rr" in name),
        (
            "",
            {"pattern": "?[!a]*b", "min_length": 4, "avoid": ["Abab"]},
            lambda n: len(n) > 3 and n[1] != "a" and n.endswith("b") and n.title() not in ABRA,
        ),
        ("", {"exclude_letters": "b", "top_k": 3, "novel": False}, lambda name: "b" not in name),
    ],
)
def test_names_are_those_of_enumeration_as_the_temperature_falls(seed, before, settings, accepts):
    made = abra(seed=seed)
    limit = {"top_k": settings["top_k"]} if "top_k" in settings else {}
    avoided = [name.lower() for name in settings.get("avoid", ())]
    expected = [n for n in cold(made, accepts, 6, before, **limit) if n not in avoided]
    count = min(6, len(expected))
    samples = made.generate(before, count=count, temperature=0, max_length=6, **settings)
    assert count >= 2
    assert found(samples) == expected[:count]


def test_the_likeliest_symbols_make_the_name_where_it_has_the_shape():
    for seed in range(5):
        made = abra(seed=seed, end_logit=2.0)
        (free,) = made.generate(temperature=0, novel=False)
        assert free.finish_reason == "end"
        (shaped,) = made.generate(temperature=0, novel=False, pattern="*")
        assert shaped.text == free.text
        assert shaped.logprob == pytest.approx(free.logprob, abs=1e-4)


def test_a_name_has_the_log_probability_that_it_has_anywhere():
    made = abra()
    for sample in made.generate(count=4, temperature=0, ends_with="ra"):
        assert sample.finish_reason == "end"
        assert sample.novel
        assert sample.logprob == pytest.approx(made.score(sample.text).logprob, abs=1e-4)


def test_chance_and_others_change_nothing_and_a_larger_count_only_adds():
    made, settings = abra(), {"temperature": 0, "ends_with": "rb"}
    few = made.generate(count=2, random_seed=1, **settings)
    many = made.generate(count=7, random_seed=2, **settings)
    assert list(few) == list(many)[:2]
    asked = [("", GenerationConfig(count=7, **settings))]
    asked += [
        ("a" * n, GenerationConfig(count=n + 1, temperature=n % 2, contains="bb")) for n in range(9)
    ]
    asked += [("", GenerationConfig(count=20))]
    assert list(abra().generate_many(asked)[0]) == list(many)


def test_names_that_may_be_alike_are_all_the_first_one():
    made, settings = abra(), {"temperature": 0, "ends_with": "ra"}
    (first,) = made.generate(**settings)
    assert list(made.generate(count=3, unique=False, **settings)) == [first] * 3


def test_a_stream_is_what_the_whole_answer_has():
    made, settings = abra(), {"count": 5, "temperature": 0, "contains": "ba"}
    pieces = list(made.stream("a", **settings))
    assert [piece.sample for piece in pieces] == list(made.generate("a", **settings))
    assert [piece.index for piece in pieces] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"pattern": "abba"}, "3 of 3 texts could not be found: temperature 0 has no more names "),
        ({"pattern": "abba"}, "; refused by novel (1)"),
        ({"pattern": "abba", "novel": False}, "2 of 3 texts"),
        ({"pattern": "abba", "novel": False, "clean": False, "unique": False}, None),
        ({"ends_with": "rb", "top_k": 1}, "of the shape within top_k."),
        ({"ends_with": "rb", "top_p": 0.9}, "of the shape within top_p."),
    ],
)
def test_too_few_names_are_said_to_be(settings, why):
    samples = abra().generate(count=3, temperature=0, **settings)
    assert (why in samples.shortfall) if why else (samples.shortfall is None)


def test_a_search_that_is_ended_says_so(monkeypatch):
    whole = abra().generate(count=60, temperature=0, ends_with="a", max_length=8)
    monkeypatch.setattr(beam, "MOST_BEGINNINGS", 40)
    some = abra().generate(count=60, temperature=0, ends_with="a", max_length=8)
    assert 0 < len(some) < len(whole) == 60
    assert list(some) == list(whole)[: len(some)]
    assert "the search for the names that come next at temperature 0 was ended" in some.shortfall


def test_a_search_that_nobody_waits_for_is_dropped(monkeypatch):
    monkeypatch.setattr(coldest, "AT_ONCE", 1)
    made = abra()
    request = made.request(count=500, temperature=0, ends_with="a")
    writer = made.writer()
    one, other, third = (writer.join(request) for _ in range(3))
    writer.turn(1)
    assert (writer.live, writer.waiting) == (1, 2)
    writer.leave(one)
    writer.leave(third)
    assert (writer.live, writer.waiting) == (0, 1)
    while not (news := writer.turn(4)):
        assert writer.busy
    assert {each.request for each in news} == {other}
    assert writer.end(other) == []
    assert not writer.busy


def test_what_can_not_go_with_a_shape_is_refused_at_temperature_0_too():
    with pytest.raises(ConfigError, match="running text, not names"):
        running().generate(temperature=0, ends_with="a")
    with pytest.raises(ConfigError, match="stop must be left out with contains"):
        abra().generate(temperature=0, contains="a", stop=["b"])
    with pytest.raises(ConfigError, match="ends_with can't be met together with"):
        abra().generate(temperature=0, ends_with="abra", max_length=3)
