"""What training leaves out."""

import numpy as np
import pytest

from charrnn.config import NetworkConfig
from charrnn.dropping import Drops, WordDrops, drops_anything
from charrnn.ops import Workspace

SIZES = np.array([3, 3, 2, 1])  # rows of each step


def drops(seed=0, layers=2, **dropping):
    config = NetworkConfig(hidden_size=20, **dropping)
    recurrent = [np.ones((20, 60), np.float32)] * layers
    return Drops(config, recurrent, 3, np.random.default_rng(seed), Workspace())


def masks(seed=0, **dropping):
    found = drops(seed, **dropping)
    return [found.outputs(n, SIZES, np.full((20, 9), np.nan, np.float32)) for n in range(2)]


@pytest.mark.parametrize("mask", ["step", "sequence"])
def test_a_mask_is_the_same_for_all_of_a_sequence_or_its_own_at_each_step(mask):
    """20 units that are dropped or not: the odds that two steps agree by chance are 2^-20."""
    for found in masks(dropout=0.5, dropout_mask=mask):
        assert set(np.unique(found)) == {0.0, 2.0}
        first, second, third = found[:, 0:3], found[:, 3:6], found[:, 6:8]
        alike = [(first, second), (first[:, :2], third), (first[:, :1], found[:, 8:])]
        assert [np.array_equal(a, b) for a, b in alike] == [mask == "sequence"] * 3
        assert not np.array_equal(found[:, 0], found[:, 1])  # sequences have their own


def test_layers_and_batches_have_masks_of_their_own():
    lower, upper = masks(dropout=0.5, dropout_mask="sequence")
    assert not np.array_equal(lower, upper)
    assert np.array_equal(lower, masks(dropout=0.5, dropout_mask="sequence")[0])
    assert not np.array_equal(lower, masks(1, dropout=0.5, dropout_mask="sequence")[0])


def test_weights_have_a_mask_for_each_layer_where_they_are_dropped():
    first, second = drops(recurrent_dropout=0.5).weights
    assert first.shape == (20, 60)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert not np.array_equal(first, second)
    assert drops(dropout=0.5).weights == []


@pytest.mark.parametrize("field", ["dropout", "recurrent_dropout"])
def test_random_numbers_are_needed_for_what_is_dropped(field):
    assert not drops_anything(NetworkConfig(dropout_mask="sequence"))
    assert drops_anything(NetworkConfig(**{field: 0.1}))


TALK = "> what did the triceratops eat?\nferns, low ones.\n> and when\nlate."
OTHERS = [f"> what was the number {n} did you say\nnumber {n}." for n in range(400)]


def lines_of(drops, talk=TALK, times=1):
    """The person's first line, so many times, each in its words."""
    rng = np.random.default_rng(0)
    return [drops.talk(talk, rng).split("\n")[0][2:].split() for _ in range(times)]


def test_replies_and_the_order_of_turns_stay_whatever_becomes_of_a_persons_words():
    drops, rng = WordDrops([TALK, *OTHERS], 0.5), np.random.default_rng(1)
    for _ in range(200):
        first, reply, second, last = drops.talk(TALK, rng).split("\n")
        assert (reply, last) == ("ferns, low ones.", "late.")
        for line in (first, second):
            assert line.startswith("> ")
            assert line == "> " + " ".join(line[2:].split())  # never empty, no stray spaces
            assert line[2:]


def test_only_words_that_are_said_often_leave_and_only_words_that_are_said_come():
    drops = WordDrops([TALK, *OTHERS], 0.5)
    own = TALK.split("\n")[0][2:].split()
    said = {word for talk in OTHERS for word in talk.split("\n")[0][2:].split()}
    left, come = set(), set()
    for words in lines_of(drops, times=500):
        assert [word for word in words if word in own[3:]][:2] == own[3:]
        left |= set(own) - set(words)
        come |= set(words) - set(own)
    assert left == {"what", "did", "the"}
    assert come <= said | {"and", "when"}
    assert {"was", "number", "you", "say"} < come
    assert any(word.isdigit() for word in come)  # a rare one, too


def test_words_leave_and_come_as_often_as_is_asked_for():
    """30,000 lines, each with a rate of its own; six standard deviations, so that one run in 10^8
    fails by chance.
    """
    count, mean, total = 30_000, 0.2, 400 * 8 + 5 + 2
    often = {"what": 401, "did": 401, "the": 401, "was": 400, "number": 400, "you": 400, "say": 400}
    thin = {word: 1 - (0.003 * total / n) ** 0.5 for word, n in often.items()}
    put_in = sum(n * thin[word] for word, n in often.items()) / total  # at the rate 1, a place
    lines = lines_of(WordDrops([TALK, *OTHERS], mean), times=count)
    come = 6 * mean * put_in * sum(often[word] for word in ("was", "number", "you", "say")) / total
    found = sum(word in ("was", "number", "you", "say") for words in lines for word in words)
    assert abs(found / count - come) < 6 * (come / count) ** 0.5 * 1.2  # rates differ by line
    rates = (np.arange(1000) + 0.5) / 1000 * 2 * mean
    none_put_in = (1 - rates * put_in * often["what"] / total) ** 6
    expected = float(np.mean(rates * thin["what"] * none_put_in))
    missing = np.mean(["what" not in words for words in lines])
    assert abs(missing - expected) < 6 * (expected * (1 - expected) / count) ** 0.5


def test_many_lines_stay_as_they_are_and_a_word_alone_stays():
    """Of 1,000 lines; the odds that fewer than 250 of them are whole are below 10^-9."""
    drops = WordDrops([TALK, *OTHERS], 0.2)
    whole = TALK.split("\n")[0][2:].split()
    assert sum(words == whole for words in lines_of(drops, times=1000)) > 250
    assert all("what" in words for words in lines_of(drops, "> what\nnothing", times=300))


def test_where_no_word_is_common_nothing_changes():
    talk = "> " + " ".join(f"w{n}" for n in range(2000)) + "\nyes"
    assert WordDrops([talk], 0.5).talk(talk, np.random.default_rng(0)) == talk
