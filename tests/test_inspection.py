"""What is told of the inside of a network is what it computes, and units are judged honestly."""

import threading

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.config import LONGEST_INSPECTED, MOST_UNITS, ModelConfig
from charrnn.errors import ConfigError, UnknownCharacterError
from charrnn.generator import Generator
from charrnn.inspection import Inspector, frequent_ending
from charrnn.model import CharRNN
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel

NAMES = tuple(f"{a}{b}saurus" for a in ("al", "bro", "cer", "dip") for b in ("o", "ani", "u"))


def generator(cell="gru", hidden_size=6, num_layers=2, names=NAMES, kind="names"):
    vocabulary = Vocabulary.of(names, ends=kind == "names", case="keep")
    config = ModelConfig(
        cell=cell, hidden_size=hidden_size, num_layers=num_layers, vocab_size=len(vocabulary)
    )
    params = CharRNN.initialized(config, np.random.default_rng(3)).params
    listed = names if kind == "names" else ()
    return Generator("tiny", "0" * 64, FrozenModel(kind, config, params, vocabulary, listed))


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_told_is_what_the_equations_give(cell):
    made = generator(cell)
    units = [5, 0]
    found = made.inspect("cero", layer=1, units=units, expected=3)
    state, ids = made.model.init_state(1), made.vocabulary.ids_of("\ncero")
    for t, id_ in enumerate(ids):
        before = state[0]
        _, state = made.model.step(np.array([id_]), state)
        layer = made.model.params.layer("layers.0.")
        _, cache = made.model.cell.forward(layer, (layer["U"][[id_]] + layer["b"]), before)
        np.testing.assert_array_equal(found.activations[t], state[0, 0, 0])
        for k, part in enumerate(made.model.cell.parts):
            np.testing.assert_array_equal(found.parts[part][t], state[0, k, 0, units])
        values = made.model.cell.gate_values(cache)
        assert len(values) == len(made.model.cell.gates)
        for name, value in zip(made.model.cell.gates, values, strict=True):
            np.testing.assert_array_equal(found.gates[name][t], value[0, units])


def test_the_state_follows_from_the_gates_that_are_told():
    found = generator("gru").inspect("alosaurus", units=[2])
    z, n = (np.concatenate(found.gates[name]) for name in "zn")
    h = np.concatenate(found.parts["h"])
    np.testing.assert_allclose(h[1:], ((1 - z) * n)[1:] + z[1:] * h[:-1], rtol=1e-5)
    found = generator("lstm").inspect("alosaurus", units=[2])
    i, f, g = (np.concatenate(found.gates[name]) for name in "ifg")
    c = np.concatenate(found.parts["c"])
    np.testing.assert_allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:], rtol=1e-5)


def test_what_is_expected_is_what_score_expects():
    made = generator()
    inspected = made.inspect("brosaurus", expected=4)
    scored = made.score("brosaurus", expected=4)
    for told, symbol in zip(inspected.expected, scored.symbols, strict=True):
        assert [each.symbol for each in told] == [each.symbol for each in symbol.expected]
        probabilities = [each.probability for each in symbol.expected]
        np.testing.assert_allclose([each.probability for each in told], probabilities, rtol=1e-4)


def test_nothing_at_all_is_a_text_too():
    found = generator().inspect("")
    assert (found.text, found.symbols, len(found.expected)) == ("", (), 1)
    assert found.activations.shape == (1, 6)


def planted(unit, feature):
    """An inspector whose network's only lively unit is a feature of the place."""
    made = generator(hidden_size=8, num_layers=1)
    inspector = Inspector(made.model, made.vocabulary, NAMES)
    noise = np.random.default_rng(0)

    def outputs(names):
        places = [(name, k) for name in names for k in range(len(name))]
        units = noise.normal(size=(len(places), 8))
        units[:, unit] = [feature(name, k) for name, k in places]
        return units

    inspector._outputs = outputs
    return inspector


def test_a_unit_that_is_a_feature_is_found_with_its_correlation():
    vowels = planted(3, lambda name, k: float(name[k] in "aeiou")).interesting
    found = {each.feature: each for each in vowels}["a vowel just read"]
    assert (found.unit, found.correlation) == (3, 1.0)
    against = planted(5, lambda name, k: -2.0 * k).interesting
    found = {each.feature: each for each in against}["position in the name"]
    assert (found.unit, found.correlation) == (5, -1.0)


def test_a_unit_is_judged_on_names_that_the_search_has_not_seen():
    made = generator(hidden_size=8, num_layers=1)
    inspector, seen = Inspector(made.model, made.vocabulary, NAMES), []
    own = inspector._outputs
    inspector._outputs = lambda names: seen.append(set(names)) or own(names)
    assert inspector.interesting
    searched, judged = seen
    assert not searched & judged
    assert searched | judged == set(NAMES)


def test_the_search_is_made_once_whoever_asks():
    made = generator()
    calls, own = [], made._inspector._outputs
    made._inspector._outputs = lambda names: calls.append(1) or own(names)
    threads = [threading.Thread(target=made.inspect, args=("al",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.inspect("bro")
    assert len(calls) == 2  # the two halves, once


def test_the_frequent_ending_is_that_of_the_list():
    assert frequent_ending(NAMES) == "saurus"
    assert frequent_ending(["abcd", "efgh", "ijkl"]) == ""
    assert frequent_ending([]) == ""
    told = [each.feature for each in generator().inspect().interesting]
    assert "the approach of -saurus" in told


def test_running_text_and_lower_layers_have_no_interesting_units():
    assert generator(kind="text").inspect("al").interesting == ()
    assert generator().inspect("al", layer=1).interesting == ()
    assert generator(names=NAMES[:5]).inspect("al").interesting == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layer": 3}, "layer must be from 1 to 2, got 3"),
        ({"layer": True}, "layer must be from 1 to 2, got True"),
        ({"units": [6]}, "units.0 must be from 0 to 5, got 6"),
        ({"units": [0, -1]}, "units.1 must be from 0 to 5, got -1"),
        ({"units": [0] * (MOST_UNITS + 1)}, f"units must have at most {MOST_UNITS} items, got 17"),
        ({"expected": 21}, "expected must be from 0 to 20, got 21"),
        ({"text": "a" * (LONGEST_INSPECTED + 1)}, "text must have at most 200 symbols, got 201"),
        ({"text": 7}, "text must be text, got 7"),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_words(wrong, words):
    with pytest.raises(ConfigError, match=words):
        generator().inspect(**{"text": "al", **wrong})


def test_a_character_that_is_not_known_is_shown():
    with pytest.raises(UnknownCharacterError, match="Q"):
        generator().inspect("alQ")


def test_the_json_has_a_place_before_the_first_symbol_and_after_each():
    told = generator().inspect("bro", units=[1, 4]).to_json()
    assert [step["symbol"] for step in told["steps"]] == ["", "b", "r", "o"]
    assert all(len(step["activations"]) == 6 for step in told["steps"])
    assert [each["unit"] for each in told["units"]] == [1, 4]
    assert all(len(rows) == 4 for each in told["units"] for rows in each["gates"].values())
