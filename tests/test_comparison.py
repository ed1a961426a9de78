"""What is measured of generated names, on cases that can be worked out by hand."""

import json
from collections import Counter

import pytest

from charrnn import comparison
from charrnn.comparison import (
    Drawn,
    compare,
    distances,
    length,
    mean_distance,
    pairs,
    shares,
    total_variation,
)
from charrnn.config import CorpusConfig, EvaluationConfig, GenerationConfig
from charrnn.errors import ConfigError
from charrnn.generator import Generator
from charrnn.splits import split
from charrnn.training import Run
from tests.training_runs import small_corpus, small_recipe

SIDES = {"train": ("rex", "roa", "tora"), "validation": ("ara",), "test": ("tex",)}


def small_generator(kind, folder):
    run = Run(small_recipe(kind, steps=30), small_corpus(kind, folder))
    return Generator("small", "0" * 64, run.train().model)


def test_total_variation_is_the_share_that_would_have_to_move():
    assert total_variation(Counter(a=3, b=1), Counter(a=3, b=1)) == 0
    assert total_variation(Counter(a=3, b=1), Counter(a=30, b=10)) == 0
    assert total_variation(Counter(a=3, b=1), Counter(a=1, b=1)) == pytest.approx(0.25)
    assert total_variation(Counter(a=3), Counter(b=9)) == 1


def test_pairs_count_the_ends_and_lengths_the_letters():
    assert pairs(["aa", "a"]) == Counter({"\na": 2, "aa": 1, "a\n": 2})
    assert pairs([""]) == Counter({"\n\n": 1})
    assert length(["aa", "b", ""]) == Counter({2: 1, 1: 1, 0: 1})


def test_a_distance_is_the_mean_over_samples_of_the_real_ones_size():
    real = ["a", "a"]
    names = ["a", "a", "a", "bb", "bb", "bb", "left out"]
    assert mean_distance(length, names, real) == pytest.approx((0 + 0.5 + 1) / 3)


def test_shares_are_of_draws_and_a_name_of_any_split_is_known():
    found = Drawn(("rex", "rox", "rox", "tex", "r"), (True, True, False, True, True), (1.0,) * 5)
    assert shares(found, SIDES) == {
        "novel": pytest.approx(3 / 5),  # rox twice, and r
        "distinct": pytest.approx(4 / 5),
        "valid_lengths": pytest.approx(3 / 5),  # one didn't end, one is shorter than the list's
    }


def test_distances_are_of_draws_and_of_training_names_from_those_held_out():
    found = distances(["ara", "tex", "tex", "ara"], SIDES, 0)
    assert found["letter_pairs"].generated == 0
    assert found["letter_pairs"].real > 0
    assert found["lengths"].generated == 0
    # ara - tora: 2 of 4 letters; tex - rex: 1 of 3. The same for the two that are held out.
    assert found["nearest"].generated == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert found["nearest"].real == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_the_networks_own_nats_are_over_symbols_and_ends():
    assert Drawn(("ab", "abc"), (True, False), (2.0, 4.0)).nats_per_character == 1.0


def test_rediscovery_counts_different_names_of_each_side(tmp_path, monkeypatch):
    generator = small_generator("names", tmp_path)
    sides = split(generator.frozen.names, CorpusConfig())
    real = [*sides["test"][:3], *sides["test"][:3], *sides["train"][:2], *sides["validation"]]
    texts = ["zzz", *real, *sides["test"][3:4]]

    def told(generator, count, temperature, random_seed):
        return Drawn(tuple(texts[:count]), (True,) * count, (1.0,) * count)

    monkeypatch.setattr(comparison, "drawn", told)
    config = EvaluationConfig(samples=2, rediscovery=len(texts) - 1)
    found = compare(generator, config, 2.0)
    assert (found.rediscovered, found.test_names) == (3, len(sides["test"]))
    assert (found.repeated, found.training_names) == (2, len(sides["train"]))
    assert (found.samples, found.novel) == (2, 0.5)
    assert found.nats_per_character.real == 2.0


@pytest.mark.parametrize("kind", ["names", "text"])
def test_the_same_random_seed_gives_the_same_figures_and_another_others(
    kind, tmp_path, monkeypatch
):
    monkeypatch.setattr(comparison, "TEXTS", 5)
    generator = small_generator(kind, tmp_path)
    config = EvaluationConfig(samples=60, rediscovery=80, temperature=0.9)
    first, again = (compare(generator, config, 1.0) for _ in range(2))
    assert first == again
    assert first != compare(generator, config.changed(random_seed=1), 1.0)
    assert json.loads(json.dumps(first.to_json())) == first.to_json()


def test_no_more_is_drawn_than_one_call_may_ask_for():
    for field in ("samples", "rediscovery"):
        most = 100_000
        GenerationConfig(count=getattr(EvaluationConfig.checked({field: most}), field))
        with pytest.raises(ConfigError, match=f"{field} must be from 0 to 100000, got 100001"):
            EvaluationConfig.checked({field: most + 1})
