"""What the committed dinosaurs give with all defaults, at the count that people would notice."""

import pytest

import charrnn


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.prove)])
def test_names_with_all_defaults_are_novel_different_and_fit_to_print(count):
    generator = charrnn.load("dinosaurs")
    samples = generator.generate(count=count, random_seed=1)
    read = [sample.text.lower() for sample in samples]
    assert len(set(read)) == len(read) == count
    assert not set(read) & set(generator.frozen.names)
    assert not any(map(charrnn.Blocklist.shipped().refuses, read))


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.prove)])
def test_a_rare_ending_is_met_by_as_many_names_as_are_asked_for(count):
    samples = charrnn.load("dinosaurs").generate(count=count, ends_with="raptor", random_seed=1)
    assert len({sample.text for sample in samples}) == count
    assert all(sample.text.endswith("raptor") and sample.novel for sample in samples)
