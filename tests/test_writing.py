"""Requests that are written at once: each gets what it gets alone, whoever joins and leaves."""

import random
from dataclasses import replace

import numpy as np
import pytest

from charrnn import writing
from charrnn.compiled import CompiledModel
from charrnn.config import FIRST_SHARED_SEED, SEEDS_OF_FOURS, GenerationConfig
from charrnn.decoding import DecodeBatch
from charrnn.errors import ConfigError, WeightsCorruptError
from charrnn.generator import MANY
from charrnn.panels import FOUR, TWELVE
from charrnn.products import BY_ROW
from charrnn.streams import Streams
from charrnn.threads import blas_threads
from charrnn.writing import SLOTS
from tests.models import (
    generator,
    names_model,
    running,
    titled,
)


@pytest.fixture(autouse=True)
def one_thread():
    """As whoever steps a writer has it."""
    with blas_threads(1):
        yield


def test_a_samples_random_numbers_are_a_jump_of_the_requests_stream():
    """So the streams of two samples never overlap: numpy's own way to make them."""
    streams = Streams()
    for index, attempt in ((0, 0), (1, 0), (7, 3), (10**6, 0), (10**5, 1000)):
        mine = streams.take(streams.of([123])[0], index, attempt)
        streams.give_back([mine])
        numpys = np.random.Generator(np.random.PCG64(123).jumped(index + (attempt << 40)))
        assert mine.bit_generator.state == numpys.bit_generator.state


def test_many_seeds_begin_their_streams_as_numpy_has_it():
    large = np.random.default_rng(5).integers(0, 2**64, 500, np.uint64).tolist()
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**64 - 1, *large]
    assert Streams.of(seeds) == [np.random.PCG64(seed).state for seed in seeds]
    assert [Streams.of([seed])[0] for seed in seeds[:7]] == Streams.of(seeds)[:7]
    assert Streams.of([]) == []


def test_many_requests_at_once_give_what_each_gives_alone():
    g = titled(hidden=64, layers=2)
    settings = [
        {"count": 1},
        {"count": 9, "temperature": 0.5},
        {"count": 70, "top_k": 5},
        {"count": 3, "min_length": 12, "max_length": 30},
        {"count": 6, "stop": ["a", "s"]},
        {"count": 2, "max_length": 2},
        {"count": 5, "top_p": 0.7},
    ]
    requests = [
        (seed, GenerationConfig(random_seed=k, **settings[k % 7]))
        for k, seed in enumerate(["", "Re", "S", "", "Ta", "Xe", ""] * 8)
    ]
    expected = [g.generate(seed, config=config) for seed, config in requests]
    made = g.generate_many(requests)
    assert made == expected
    for mine, alone in zip(made, expected, strict=True):
        assert (mine.seed, mine.random_seed, mine.requested) == (
            alone.seed,
            alone.random_seed,
            alone.requested,
        )
    assert g.generate_many(requests[::-1]) == expected[::-1]
    assert g.generate_many([]) == []


@pytest.mark.parametrize("bad", [None, "Rex", ("Rex",), 3, {"seed": "Rex"}])
def test_a_request_of_many_that_is_none_is_named(bad):
    with pytest.raises(ConfigError, match=r"requests\[1\] must be a seed and its GenerationConfig"):
        titled().generate_many([("Re", GenerationConfig()), bad])


def test_what_requests_begin_with_is_read_when_they_begin(monkeypatch):
    """So ten thousand requests hold no more than those that are being written."""
    g, held = titled(), []
    whole = CompiledModel.read
    monkeypatch.setattr(
        CompiledModel, "read", lambda self, prompt: held.append(prompt) or whole(self, prompt)
    )
    written = g._stream(g.request("R", GenerationConfig(count=500, max_length=6)))
    next(written)
    assert len(held) == 1
    config = GenerationConfig(max_length=3, random_seed=0)
    requests = [g.request("R", config) for _ in range(300)]
    news = g.writer().write(requests, 1)
    next(news)
    assert len(held) < 100
    assert len([each for each in news if each.sample]) == 300
    assert len(held) == 301


def written_alone(g, request):
    return [news for news in g.writer().write([request], 8) if news.sample]


def test_many_texts_share_products_if_their_random_seed_is_ours():
    g, plain = titled(hidden=64), ("", GenerationConfig())
    for count in (2, 9):
        made = g.generate(count=count)
        assert made.random_seed >= FIRST_SHARED_SEED
        assert made == g.generate(count=count, random_seed=made.random_seed)
    assert g.generate().random_seed < FIRST_SHARED_SEED
    assert g.generate(count=2, random_seed=7).random_seed == 7
    assert all(
        made.random_seed < FIRST_SHARED_SEED for made in g.generate_many([plain] * (MANY - 1))
    )
    for made in g.generate_many([plain] * MANY):
        assert made.random_seed >= FIRST_SHARED_SEED
        assert made == g.generate(random_seed=made.random_seed)


@pytest.fixture
def with_fours(monkeypatch):
    """A model that has use for fours, and so many texts of others."""
    g = running(hidden=64)
    monkeypatch.setitem(vars(g.compiled), "has_use_for_fours", True)
    return g


def one_more(g, writer, **settings):
    request = writer.placed(g.request("", GenerationConfig(**settings)).among_others())
    return writer.join(request), request


@pytest.mark.parametrize(
    ("texts", "fours"),
    [(1, 1), (3, 3), (4, 4), (5, 0), (12, 0), (13, 1), (16, 4), (17, 0), (24, 0), (26, 2)],
)
def test_what_twelves_leave_over_comes_to_be_multiplied_as_fours(with_fours, texts, fours):
    writer, chance = with_fours.writer(), random.Random(texts)
    written = dict(one_more(with_fours, writer, max_length=9999) for _ in range(texts))
    for _ in range(30 * texts):
        number = chance.choice(list(written))
        del written[number]
        writer.leave(number)
        written |= [one_more(with_fours, writer, max_length=9999)]
        writer.turn(1)
    assert sum(request.is_of_fours for request in written.values()) == fours


def test_fours_are_those_that_live_in_the_batch_and_no_more_than_it_has_room_for(with_fours):
    writer = with_fours.writer()
    first = [one_more(with_fours, writer, max_length=9999) for _ in range(FOUR)]
    writer.turn(1)
    for number, _ in first:
        writer.pause(number)
    later = [one_more(with_fours, writer, max_length=9999) for _ in range(FOUR)]
    assert all(request.is_of_fours for _, request in [*first, *later])
    for number, _ in [*first, *later]:
        writer.leave(number)
    written = dict(one_more(with_fours, writer, max_length=9999) for _ in range(SLOTS + 9))
    for number in list(written):  # who waits, waits as what it is
        del written[number]
        writer.leave(number)
        written |= [one_more(with_fours, writer, max_length=9999)]
        writer.turn(1)
    assert sum(request.is_of_fours for request in written.values()) == SLOTS % TWELVE


def test_a_request_of_several_texts_has_no_four(with_fours):
    writer = with_fours.writer()
    for count in (2, 4, 13, 16):
        _, request = one_more(with_fours, writer, count=count)
        assert not request.is_of_fours


def test_a_text_that_is_one_of_four_has_the_random_seed_of_such_a_one(with_fours):
    writer, made = with_fours.writer(), []
    asked = [one_more(with_fours, writer, max_length=9) for _ in range(MANY)]
    with blas_threads(1):
        while writer.busy:
            made += [news for news in writer.turn(8) if news.sample]
    assert sum(request.is_of_fours for _, request in asked) == FOUR
    for number, request in asked:
        assert request.is_shared
        (sample,) = (news.sample for news in made if news.request == number)
        again = with_fours.generate(max_length=9, random_seed=request.random_seed)
        assert again[0] == sample


def test_a_random_seed_of_the_callers_is_as_it_was(with_fours):
    writer = with_fours.writer()
    for seed in (0, FIRST_SHARED_SEED, SEEDS_OF_FOURS[-1]):
        _, request = one_more(with_fours, writer, random_seed=seed)
        assert request.random_seed == seed
    request = with_fours.request("")  # one that shares nothing
    assert writer.placed(request) is request


def test_only_the_first_text_of_a_request_is_one_of_four(with_fours):
    seed, writer = SEEDS_OF_FOURS[5], with_fours.writer()
    writer.join(with_fours.request("", count=7, max_length=9, random_seed=seed))
    writer.turn(1)
    texts = writer._many().texts.values()
    assert [text.as_fours for text in sorted(texts, key=lambda text: text.index)][:2] == [1, 0]
    assert sum(text.as_fours for text in texts) == 1
    whole = with_fours.generate(count=7, max_length=9, random_seed=seed)
    assert whole[:1] == with_fours.generate(max_length=9, random_seed=seed)[:1]


def test_requests_that_join_and_leave_between_turns_get_what_each_gets_alone():
    """At random: some leave in the middle, some have one turn of a symbol, some many."""
    g, rng = titled(hidden=64, layers=2), np.random.default_rng(0)
    requests = [
        g.request(
            ["", "Re", "S", "Tat"][k % 4],
            GenerationConfig(
                random_seed=k + (0, FIRST_SHARED_SEED, SEEDS_OF_FOURS.start)[k % 3],
                count=int(rng.choice([1, 2, 30, 90])),
                stop=[[], ["a"]][k % 2],
            ),
        )
        for k in range(40)
    ]
    writer, waiting, numbers = g.writer(), list(range(40)), {}
    samples, texts, left, paused = {}, {}, set(), set()
    while waiting or writer.busy:
        for _ in range(int(rng.integers(0, 4))):
            if waiting:
                place = waiting.pop()
                numbers[writer.join(requests[place])] = place
        for news in writer.turn(int(rng.choice([1, 3, 200]))):
            key = numbers[news.request], news.sample_index
            assert key[0] not in left
            texts[key] = texts.get(key, "") + news.characters
            if news.sample:
                samples[key] = news.sample
        for number in list(writer._open):
            if rng.random() < 0.02:
                writer.leave(number)
                left.add(numbers[number])
            elif rng.random() < 0.5:
                paused.add(number)
                writer.pause(number)
            elif rng.random() < 0.8:
                writer.resume(number)
    assert len(left) > 5
    assert len(paused) > 20
    for place, request in enumerate(requests):
        expected = {news.sample_index: news.sample for news in written_alone(g, request)}
        found = {index: one for (other, index), one in samples.items() if other == place}
        if place in left:
            assert found.items() <= expected.items()
        else:
            assert found == expected
    for key, sample in samples.items():
        assert g.vocabulary.write(texts[key]) == sample.text


def test_a_request_stands_still_while_it_is_paused():
    g = running()
    writer = g.writer()
    number = writer.join(g.request("", GenerationConfig(count=200, max_length=50)))
    live = len(writer.turn(3))
    assert live == writer.live >= SLOTS
    writer.pause(number)
    writer.pause(number)
    assert not writer.turn(3)
    assert writer.busy
    writer.resume(number)
    writer.resume(number)
    assert len(writer.turn(3)) == live


def test_a_request_that_is_ended_keeps_what_its_texts_have():
    g = running()
    config = GenerationConfig(count=200, max_length=500, random_seed=1, stop=["ab"])
    request = g.request("abc", config)
    whole = {news.sample_index: news.sample.text for news in written_alone(g, request)}
    writer = g.writer()
    number = writer.join(request)
    shown = {}
    for _ in range(4):
        for news in writer.turn(8):
            shown[news.sample_index] = shown.get(news.sample_index, "") + news.characters
    ended = writer.end(number)
    assert not writer.busy
    assert not writer.end(number)
    assert {news.sample.finish_reason for news in ended} == {"time"}
    assert 0 < len(ended) <= SLOTS + 1
    for news in ended:
        text = news.sample.text
        assert text == shown[news.sample_index] + news.characters
        assert whole[news.sample_index].startswith(text.removesuffix("a"))
        assert news.sample.logprob < 0


def test_a_request_that_leaves_gives_its_slots_back_at_once():
    g = titled()
    writer, config = g.writer(), GenerationConfig(count=500, max_length=900, temperature=9)
    number = writer.join(g.request("", config))
    writer.turn(1)
    writer.leave(number)
    writer.leave(number)
    assert not writer.busy
    assert {queue.batch.free for queue in writer._queues()} == {SLOTS}
    assert not writer.turn(1)


def test_a_long_prompt_is_read_between_the_steps_of_others(monkeypatch):
    g = running()
    rng = np.random.default_rng(0)
    seeds = ["".join(rng.choice(list(g.known_characters), n)) for n in (2000, 700, 65, 64, 3)]
    requests = [g.request(seed, GenerationConfig(random_seed=1, count=3)) for seed in seeds]
    expected = [written_alone(g, request) for request in requests]
    whole, read = CompiledModel.read, []
    monkeypatch.setattr(
        CompiledModel,
        "read",
        lambda self, ids, *more: read.append(len(ids)) or whole(self, ids, *more),
    )
    writer = g.writer()
    numbers = [writer.join(request) for request in requests]
    turns, samples = [], {number: {} for number in numbers}
    while writer.busy:
        before = len(read)
        for news in writer.turn(8):
            if news.sample:
                samples[news.request][news.sample_index] = news.sample
        turns.append(sum(read[before:]))
    for number, each in zip(numbers, expected, strict=True):
        assert samples[number] == {news.sample_index: news.sample for news in each}
    assert sum(turns) > 2700
    assert max(turns[1:]) < 100, "those that are short are read at once, in the first turn"


def test_a_request_that_leaves_is_read_no_further():
    g = running()
    writer = g.writer()
    numbers = [writer.join(g.request("abc" * 500, GenerationConfig(count=2))) for _ in range(3)]
    writer.turn(8)
    writer.leave(numbers[1])
    assert not writer.end(numbers[0])
    writer.pause(numbers[2])
    for _ in range(200):
        assert not writer.turn(8)
    writer.resume(numbers[2])
    assert writer.turn(8)


def test_a_request_of_many_samples_does_not_keep_others_from_the_batch():
    g = running()
    writer = g.writer()
    writer.join(g.request("", GenerationConfig(count=1000, max_length=1000)))
    writer.turn(8)
    second = writer.join(g.request("", GenerationConfig(count=40, max_length=8)))
    turns = 0
    while second in writer._open:
        writer.turn(8)
        turns += 1
    assert turns < 130  # those of the thousand that were first are over after 125


def long_and_short(long, short, count=1):
    sizes = [(400, 1)] * long + [(10, count)] * short
    return [
        running(hidden=16).request("", GenerationConfig(count=n, max_length=length, random_seed=k))
        for k, (length, n) in enumerate(sizes)
    ]


def written_with_few_slots(monkeypatch, requests, steps):
    """Texts by request and index, all asked for at once of a writer with four slots; and the turn
    in which each request ended.
    """
    monkeypatch.setattr(writing, "SLOTS", 4)
    writer, texts, ended, turns = running(hidden=16).writer(), {}, {}, 0
    numbers = [writer.join(each) for each in requests]
    while writer.busy:
        turns += 1
        for news in writer.turn(steps()):
            if news.sample:
                texts[numbers.index(news.request), news.sample_index] = news.sample
        ended |= {numbers.index(number): turns for number in writer.take_over()}
    assert not writer.live
    return texts, ended


@pytest.mark.parametrize("count", [1, 3])
def test_a_short_text_waits_for_no_long_one_however_many_there_are(monkeypatch, count):
    requests = long_and_short(12, 2, count)
    texts, ended = written_with_few_slots(monkeypatch, requests, lambda: 8)
    assert len(texts) == 12 + 2 * count
    shorts, longs = [ended.pop(12), ended.pop(13)], list(ended.values())
    assert max(shorts) < min(longs), "400 symbols are 50 turns"
    assert max(longs) < 1.2 * 12 * 400 / (4 * 8)


def test_texts_are_the_same_whether_they_stood_still_or_not(monkeypatch):
    rng, requests = np.random.default_rng(3), long_and_short(9, 5, 3)
    expected = [written_alone(running(hidden=16), request) for request in requests]
    texts, _ = written_with_few_slots(monkeypatch, requests, lambda: int(rng.integers(1, 9)))
    for number, news in enumerate(expected):
        for each in news:
            assert texts[number, each.sample_index] == each.sample


def test_texts_that_stand_still_go_on_though_others_keep_coming(monkeypatch):
    monkeypatch.setattr(writing, "SLOTS", 4)
    g, turns = running(hidden=16), 0
    writer = g.writer()
    longs = {writer.join(each) for each in long_and_short(6, 0)}
    while longs:
        for _ in range(4):
            writer.join(g.request("", GenerationConfig(max_length=6, random_seed=turns)))
        writer.turn(8)
        longs -= set(writer.take_over())
        turns += 1
        assert turns < 1000


def test_a_network_whose_logits_are_no_numbers_is_refused():
    model = names_model()
    params = model.params.like(model.params.flat.copy())
    params["out.c"][2] = np.nan
    g = generator(replace(model, params=params))
    for use in (lambda: g.generate(count=9), lambda: list(g.stream())):
        with pytest.raises(WeightsCorruptError, match="must be finite"):
            use()


def test_where_no_shared_product_is_exact_all_samples_are_multiplied_alone(monkeypatch):
    g, turns = titled(), []
    monkeypatch.setattr(CompiledModel, "block", BY_ROW)
    whole = DecodeBatch.step
    monkeypatch.setattr(
        DecodeBatch, "step", lambda self, *rest: turns.append(self) or whole(self, *rest)
    )
    made = g.generate(count=90, random_seed=3)
    assert g.generate(count=2, random_seed=3) == made[:2]
    assert g.generate(count=9, random_seed=3) == made[:9]
    assert len(set(turns)) == 1
