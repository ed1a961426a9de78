"""The front door: the same bytes for the same seed, lengths, seeds, settings, novelty."""

import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import charrnn
from charrnn.config import LONGEST_TEXT, GenerationConfig
from charrnn.errors import ConfigError, UnknownCharacterError
from charrnn.generator import TEXT_LENGTH
from charrnn.vocabulary import Vocabulary
from charrnn.weights import to_bytes
from charrnn.writing import SLOTS
from tests.kinds import ALL, SEEDS, every_kind, every_seed, streamed, texts
from tests.models import (
    KEPT_NAMES,
    TITLE_NAMES,
    frozen,
    generator,
    kept,
    names_model,
    running,
    titled,
)

# The same seed, the same bytes


@every_seed
def test_a_sample_does_not_change_with_count_streaming_or_another_call(kind, seed):
    g, settings = ALL[kind](), {"random_seed": 2**40 + 3, "max_length": 20}
    hundred = g.generate(seed, count=100, **settings)
    assert len(set(texts(hundred))) > 20
    assert g.generate(seed, count=1, **settings) == hundred[:1]
    assert g.generate(seed, count=3, **settings) == hundred[:3]
    assert g.generate(seed, count=100, **settings) == hundred
    for count in (1, 5):
        found = streamed(g.stream(seed, count=count, **settings))
        assert [found[k][-1].sample for k in range(count)] == hundred[:count]


def test_a_sample_does_not_change_with_the_number_of_slots(monkeypatch):
    g = titled()
    expected = g.generate(count=50, random_seed=1)
    for slots in (1, 7, 50, 1000):
        monkeypatch.setattr("charrnn.writing.SLOTS", slots)
        assert g.generate(count=50, random_seed=1) == expected


def test_a_thousand_samples_are_in_order_and_each_index_is_its_own():
    g = titled()
    assert SLOTS < 1000
    many = g.generate("R", count=1000, random_seed=4, temperature=2)
    assert len(many) == many.requested == 1000
    assert many.shortfall is None
    assert g.generate("R", count=70, random_seed=4, temperature=2) == many[:70]
    assert len(set(texts(many))) > 300
    found = streamed(g.stream("R", count=1000, random_seed=4, temperature=2))
    assert [found[k][-1].sample for k in range(1000)] == many


def test_samples_do_not_change_while_other_threads_use_the_same_generator():
    g = titled(hidden=64, layers=2)
    expected = g.generate("S", count=10, random_seed=5)
    begin, stop = threading.Barrier(5), threading.Event()

    def other(k):
        mine = g.generate(count=k + 2, random_seed=k)
        begin.wait(30)
        while not stop.is_set():
            assert g.generate(count=k + 2, random_seed=k) == mine
            list(islice(g.stream(count=3, random_seed=k), k))

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(other, k) for k in range(4)]
        begin.wait(30)
        try:
            for _ in range(10):
                assert g.generate("S", count=10, random_seed=5) == expected
        finally:
            stop.set()
        for one in work:
            one.result(30)


CHILD = """
import json, sys, charrnn
g = charrnn.load(sys.argv[1])
made = g.generate("R", count=9, random_seed=8, temperature=1.3, top_k=6)
print(json.dumps([[s.text, s.logprob, s.finish_reason, s.novel] for s in made]))
"""


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_fresh_process_that_loads_the_file_gives_the_same_bytes(cell, tmp_path):
    model = names_model(cell=cell, hidden=33, layers=2)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(to_bytes(model))
    asked = {"count": 9, "random_seed": 8, "temperature": 1.3, "top_k": 6}
    here = generator(model).generate("R", **asked)
    assert charrnn.load(path).generate("R", **asked) == here
    assert charrnn.load(str(path)).generate("R", **asked) == here
    loaded = charrnn.load(path)
    assert charrnn.load(path, version=loaded.version).version == loaded.version
    with pytest.raises(ConfigError, match="version must be left out with a file, which is version"):
        charrnn.load(path, version="0" * 12)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == [[s.text, s.logprob, s.finish_reason, s.novel] for s in here]


def test_without_a_random_seed_one_is_drawn_and_reported():
    g = titled()
    first, second = g.generate(count=20), g.generate(count=20)
    assert first.random_seed != second.random_seed  # alike with a chance of 2^-32
    assert texts(first) != texts(second)
    for one in (first, second):
        assert g.generate(count=20, random_seed=one.random_seed) == one


def test_different_random_seeds_and_different_indices_draw_differently():
    g = running(hidden=16)
    found = [
        text
        for random_seed in range(20)
        for text in texts(g.generate(count=5, random_seed=random_seed, max_length=60))
    ]
    assert len(set(found)) == 100


@every_kind
def test_temperature_0_gives_one_text_whatever_the_random_seed(kind):
    g = ALL[kind]()
    found = {
        tuple(g.generate(count=3, temperature=0, random_seed=random_seed, max_length=15))
        for random_seed in range(5)
    }
    assert len(found) == 1
    assert len(set(found.pop())) == 1


def test_all_settings_at_once_equal_the_same_one_by_one():
    g, config = titled(), GenerationConfig(count=3, temperature=0.7, random_seed=3)
    assert g.generate("R", config=config) == g.generate(
        "R", count=3, temperature=0.7, random_seed=3
    )
    assert g.generate(config=config, count=2) == g.generate(config=config)[:2]


# Lengths and the ends of a text


@every_kind
def test_a_seed_as_long_as_the_longest_text_is_the_text(kind):
    g, seed = ALL[kind](), SEEDS[kind][2]
    made = g.generate(seed, max_length=len(seed), count=3)
    assert texts(made) == [made.seed] * 3
    assert {(s.logprob, s.finish_reason) for s in made} == {(0.0, "length")}
    pieces = list(g.stream(seed, max_length=len(seed)))
    assert [(p.text, p.sample) for p in pieces] == [(made.seed, made[0])]


def test_a_seed_longer_than_the_longest_text_is_refused():
    with pytest.raises(ConfigError, match="max_length must be at least the seed's length") as error:
        titled().generate("Rex", max_length=2)
    assert [problem.field for problem in error.value.problems] == ["max_length"]


def test_a_seed_longer_than_any_text_is_refused_without_a_max_length_too():
    g = running()
    longest = "a" * LONGEST_TEXT
    with pytest.raises(ConfigError, match=f"seed must have at most {LONGEST_TEXT}"):
        g.generate(longest + "a")
    assert g.generate(longest)[0].text == longest


def test_a_seed_longer_than_the_models_own_length_leaves_room_for_a_symbol():
    g = titled()
    seed = "r" * (g.default_max_length + 5)
    assert {len(text) for text in texts(g.generate(seed, count=9))} <= {len(seed), len(seed) + 1}


def test_the_models_own_length_is_twice_its_longest_name_or_500():
    assert titled().default_max_length == 2 * max(map(len, TITLE_NAMES))
    assert running().default_max_length == TEXT_LENGTH == 500
    assert len(running().generate()[0].text) == 500
    assert len(running().generate(min_length=600)[0].text) == 600


@every_kind
@pytest.mark.parametrize("length", [1, 7])
def test_equal_least_and_greatest_lengths_give_that_length(kind, length):
    made = ALL[kind](end_logit=20).generate(count=9, min_length=length, max_length=length)
    assert {len(text) for text in texts(made)} == {length}
    assert {sample.finish_reason for sample in made} == {"length"}


@every_kind
def test_a_longest_text_of_one_symbol_draws_one(kind):
    made = ALL[kind]().generate(count=40, max_length=1, temperature=3)
    assert max(map(len, texts(made))) == 1
    assert all(len(s.text) == (s.finish_reason == "length") for s in made)


@pytest.mark.parametrize("seed", ["", "Rex", "Rexerus"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_least_length_counts_the_seed_and_never_loops_where_the_end_is_certain(seed, temperature):
    g = titled(end_logit=60)
    made = g.generate(seed, count=5, min_length=6, max_length=30, temperature=temperature)
    assert {len(text) for text in texts(made)} == {max(6, len(seed))}
    assert {sample.finish_reason for sample in made} == {"end"}


def test_a_model_that_never_ends_stops_at_its_length():
    made = titled(end_logit=-60).generate(count=5, max_length=33)
    assert {(len(s.text), s.finish_reason) for s in made} == {(33, "length")}


def test_no_name_is_empty_however_likely_its_end():
    writer = generator(names_model(end_logit=40.0))
    assert {len(sample.text) for sample in writer.generate(count=50, random_seed=1)} == {1}


@pytest.mark.parametrize("characters", ["ab", "ab ", "ab\n", "\x00\U0001f600"])
def test_running_text_needs_neither_newline_nor_space(characters):
    g = running(characters)
    text = g.generate(max_length=80, random_seed=0)[0].text
    assert len(text) == 80
    assert set(text) <= set(characters)
    assert g.generate(characters, max_length=80)[0].text.startswith(characters)


# Seeds


@pytest.mark.parametrize("seed", ["rex", "REX", "Rex", "rEx"])
def test_letters_of_a_seed_follow_the_models_case_rule(seed):
    made = titled().generate(seed, count=4, random_seed=0)
    assert made.seed == "Rex"
    assert made == titled().generate("Rex", count=4, random_seed=0)


def test_letters_of_a_seed_count_where_the_model_keeps_them():
    g = kept()
    assert g.generate("McR", random_seed=0)[0].text.startswith("McR")
    with pytest.raises(UnknownCharacterError):
        g.generate("mcr")


def test_a_decomposed_seed_equals_the_composed_one():
    g = ALL["sentence"]()
    composed = g.generate("Éx", count=4, random_seed=0)
    assert g.generate("E\u0301x", count=4, random_seed=0) == composed
    assert g.generate("e\u0301X", count=4, random_seed=0) == composed
    assert composed.seed == "Éx"


@pytest.mark.parametrize(
    ("seed", "character", "position"),
    [("Ty!", "T", 0), ("Re!x", "!", 2), ("Rex\n", "\n", 3), ("Rex\U0001f996", "\U0001f996", 3)],
)
def test_an_unknown_character_is_shown_with_its_position_and_the_known(seed, character, position):
    g = generator(names_model(("Rexy", "Xerus")))
    with pytest.raises(UnknownCharacterError) as error:
        g.generate(seed)
    assert (error.value.character, error.value.position) == (character, position)
    assert error.value.known == g.known_characters == "ersuxy"
    assert f"position {position}" in str(error.value)


def test_a_lone_surrogate_is_an_unknown_character():
    for use in (titled().generate, titled().stream, titled().score):
        with pytest.raises(UnknownCharacterError):
            use("Re\ud800")


# Settings that are wrong


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("count", value) for value in (0, -1, 2.5, True, "3", None, 100_001, [1])],
        *[("temperature", v) for v in (-0.1, 10.1, math.nan, math.inf, "1", True, None)],
        *[("top_k", value) for value in (0, 1.5, "3", True)],
        *[("top_p", value) for value in (0, 1.01, -1, "0.5", math.nan)],
        *[("min_length", value) for value in (-1, 1.5, None, LONGEST_TEXT + 1)],
        *[("max_length", value) for value in (0, 1.5, "9", LONGEST_TEXT + 1)],
        *[("stop", value) for value in ("abc", 5, None)],
        *[("random_seed", value) for value in (-1, 1.5, "7", True, 2**53)],
        *[("seed", value) for value in (None, 5, b"Rex", ["R"])],
        ("colour", "red"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_field(field, value):
    g = titled()
    for use in (g.generate, g.stream):
        with pytest.raises(ConfigError) as error:
            use(**{field: value})
        assert [problem.field for problem in error.value.problems] == [field]
        assert field in str(error.value)


@pytest.mark.parametrize("stop", [[""], ["a", ""], [5], [b"ab"], ["a" * 101]])
def test_a_wrong_stop_string_is_named_by_its_place(stop):
    with pytest.raises(ConfigError, match=rf"stop\.{len(stop) - 1} "):
        titled().generate(stop=stop)


def test_every_wrong_setting_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        titled().generate(count=0, temperature=-1, top_p=2)
    assert {problem.field for problem in error.value.problems} == {"count", "temperature", "top_p"}


def test_a_least_length_above_the_greatest_is_refused():
    with pytest.raises(ConfigError, match="min_length must be at most max_length"):
        titled().generate(min_length=9, max_length=8)


def test_numbers_of_numpy_are_numbers():
    g = titled()
    plain = g.generate(count=2, temperature=0.5, random_seed=3, top_k=2)
    assert plain == g.generate(
        count=np.int64(2), temperature=np.float32(0.5), random_seed=np.uint8(3), top_k=2.0
    )


# Novelty


def test_a_text_is_novel_where_it_is_nowhere_in_the_list():
    model = names_model()
    made = generator(model).generate(count=60, random_seed=0, max_length=12)
    assert all(s.novel == (s.text not in TITLE_NAMES) for s in made)
    known = made[0].text  # as the model reads it
    again = generator(replace(model, names=(*model.names, known.lower()))).generate(
        count=60, random_seed=0, max_length=12
    )
    assert texts(again) == texts(made)
    assert {s.text for s in again if not s.novel} == {known}


def test_a_seed_that_is_a_whole_name_is_not_novel():
    made = titled().generate("sauro rex", max_length=9)
    assert (made[0].text, made[0].novel) == ("Sauro Rex", False)


def test_running_text_is_neither_novel_nor_not():
    assert running().generate(max_length=5)[0].novel is None


# The rest of the door


@every_kind
def test_a_card_is_ready_for_json(kind):
    g = ALL[kind]()
    card = g.card()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["kind"] == ("text" if kind == "running" else "names")
    assert card["parameters"] == sum(array.size for array in g.frozen.params.values())
    assert card["vocabulary"] == len(g.vocabulary)
    assert "\n" not in card["known_characters"] or kind == "running"


def test_what_is_known_leaves_out_the_end_symbol_of_names_alone():
    assert kept().known_characters == "".join(sorted(set("".join(KEPT_NAMES))))
    assert running("a\n").known_characters == "\na"


def test_a_large_vocabulary_generates_and_scores():
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    vocabulary = Vocabulary.of([characters], ends=False)
    g = generator(frozen("text", vocabulary))
    sample = g.generate(max_length=9, random_seed=0)[0]
    assert sample.logprob == pytest.approx(g.score(sample.text).logprob, abs=1e-9)
