"""Running text is the same however it is stepped, whole and streamed, whatever is asked of it."""

import random
from typing import Any

import pytest

import charrnn.texts
from charrnn.blocklist import Blocklist
from charrnn.config import FIRST_SHARED_SEED
from charrnn.threads import blas_threads
from charrnn.writing import Writer
from tests.models import running
from tests.test_words import random_words

BLOCKED_WORDS = ("cat", "saw", "my", "it", "dog", "home", "then", "anna")
BESIDES = (" ", "- ", " @", "1 ", "é ")  # letters: some stand for one, or are part of one


def random_model(chance):
    """A generator with a block list of its own, and stop strings that its texts may have."""
    if chance.random() < 0.25:
        made = random_words(hidden=chance.choice([4, 16, 32]))
        made.blocklist = Blocklist(chance.sample(BLOCKED_WORDS, chance.randint(1, 4)))
        return made, ["aw", "the cat", ". ", "fed"]
    letters = chance.sample("abcd", chance.randint(2, 3))
    made = running(
        "".join(letters) + chance.choice(BESIDES),
        cell=chance.choice(["rnn", "gru", "lstm"]),
        layers=chance.choice([1, 2]),
        hidden=chance.choice([4, 8, 33]),
        seed=chance.randint(0, 9),
    )
    words = ["".join(chance.choices(letters, k=chance.randint(1, 3))) for _ in range(3)]
    made.blocklist = Blocklist(words[: chance.randint(1, 3)])
    stops = ["".join(chance.choices([*letters, " "], k=chance.randint(1, 3))) for _ in range(3)]
    return made, stops


def random_settings(chance, stops):
    asked: dict[str, Any] = {
        "count": chance.randint(1, 5),
        "max_length": chance.choice([5, 40, 150, 300]),
        "clean": True,
        "random_seed": chance.choice([0, FIRST_SHARED_SEED]) + chance.randint(0, 10**6),
    }
    if chance.random() < 0.4:
        asked["stop"] = chance.sample(stops, chance.randint(1, 2))
    if chance.random() < 0.3:
        asked["min_length"] = chance.randint(0, asked["max_length"])
    if chance.random() < 0.2:
        asked["top_k"] = chance.randint(1, 4)
    if chance.random() < 0.2:
        asked["temperature"] = chance.choice([0, 0.5, 1.5])
    return asked


def stepped_at_random(made, all_asked, chance):
    """Each request's samples, and what was told of them bit by bit: all of them written together,
    in turns of any size, some standing still now and then.
    """
    writer = made.writer()
    numbers = [writer.join(made.request(**asked)) for asked in all_asked]
    samples = {number: {} for number in numbers}
    told = {number: {} for number in numbers}
    over, paused = set(), set()
    with blas_threads(1):
        while writer.busy:
            over.update(writer.take_over())
            for number in set(numbers) - over:
                if number in paused:
                    writer.resume(number)
                    paused.discard(number)
                elif chance.random() < 0.1:
                    writer.pause(number)
                    paused.add(number)
            for news in writer.turn(chance.choice([1, 2, 5, 16, 64])):
                index, characters = news.sample_index, news.characters
                told[news.request].setdefault(index, []).append(characters)
                if news.sample:
                    samples[news.request][index] = news.sample
    return [([samples[n][i] for i in sorted(samples[n])], told[n]) for n in numbers]


def check(seed, rounds, monkeypatch):
    """Returns how often a text went back."""
    chance, back, went_back = random.Random(seed), Writer._go_back, []
    monkeypatch.setattr(Writer, "_go_back", lambda *each: went_back.append(1) or back(*each))
    for _ in range(rounds):
        made, stops = random_model(chance)
        all_asked = [random_settings(chance, stops) for _ in range(chance.randint(1, 3))]
        whole = [list(made.generate(**asked)) for asked in all_asked]
        with monkeypatch.context() as patched:
            patched.setattr(charrnn.texts, "NOTED", chance.choice([1, 3, 17, 64, 10**9]))
            found = stepped_at_random(made, all_asked, chance)
        for asked, expected, (samples, told) in zip(all_asked, whole, found, strict=True):
            texts = [(one.text, one.finish_reason) for one in samples]
            assert texts == [(one.text, one.finish_reason) for one in expected], asked
            for one, other in zip(samples, expected, strict=True):
                assert one.logprob == pytest.approx(other.logprob, rel=1e-9), asked
            for index, one in enumerate(expected):
                assert made.vocabulary.write("".join(told[index])) == one.text, asked
                assert asked.get("stop") or not made.blocklist.finds_word(one.text), asked
    return len(went_back)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_however_it_is_stepped(seed, monkeypatch):
    assert check(seed, 12, monkeypatch) > 100


@pytest.mark.prove
def test_so_it_is_for_hundreds_of_models(monkeypatch):
    assert check(1000, 500, monkeypatch) > 10_000
