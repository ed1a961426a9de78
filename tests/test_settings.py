"""Settings as Python has them: made, compared, kept and copied."""

import copy
import pickle
from typing import Any

import pytest

from charrnn.config import GenerationConfig, ModelConfig, NetworkConfig
from charrnn.errors import ConfigError
from charrnn.recipe import Recipe
from charrnn.settings import Settings, setting


class Pair(Settings):
    left: int = setting(default=lambda: 1 + 1, ge=0)
    right: str | None = setting(default=None, check=str.upper)


def test_settings_are_made_by_keywords_as_by_a_mapping():
    made = GenerationConfig(count=3.0, stop=["a"])
    assert made == GenerationConfig.checked({"count": 3, "stop": ("a",)})
    assert made.said() == {"count": 3, "stop": ("a",)}
    with pytest.raises(ConfigError, match="count must be from 1 to 100000, got 0"):
        GenerationConfig(count=0)
    values: dict[str, Any] = {"cuont": 1}
    with pytest.raises(ConfigError, match="cuont is not a known field"):
        GenerationConfig(**values)


def test_settings_are_equal_by_type_and_values_however_they_were_said():
    config = GenerationConfig()
    assert config == GenerationConfig(count=1) != GenerationConfig(count=2)
    assert hash(config) == hash(GenerationConfig(count=1))
    assert config != dict(config)
    assert NetworkConfig() != ModelConfig(vocab_size=5)


def test_settings_show_every_value_and_parts_as_they_are():
    assert repr(NetworkConfig(cell="gru")) == (
        "NetworkConfig(cell='gru', hidden_size=256, num_layers=1, dropout=0.0, "
        "dropout_mask='step', recurrent_dropout=0.0, init='uniform')"
    )
    recipe = Recipe(name="a", data=["b"], network=NetworkConfig(cell="gru"))
    assert dict(recipe)["network"] is recipe.network
    assert recipe.values()["network"] == recipe.network.values()
    assert recipe.said() == {"name": "a", "data": ["b"], "network": {"cell": "gru"}}


def test_what_is_said_over_defaults_stays_and_then_all_counts_as_said():
    config = NetworkConfig(cell="gru").over({"cell": "rnn", "hidden_size": 3})
    assert (config.cell, config.hidden_size) == ("gru", 3)
    assert config.said() == config.values()


def test_settings_can_not_be_changed_in_place():
    config = GenerationConfig()
    with pytest.raises(ConfigError, match="count is frozen"):
        config.count = 5
    with pytest.raises(ConfigError, match="count is frozen"):
        del config.count
    assert config.count == 1


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))]
)
def test_a_copy_is_equal_and_knows_what_was_said(again):
    config = again(GenerationConfig(count=3))
    assert config == GenerationConfig(count=3)
    assert config.said() == {"count": 3}


def test_a_default_may_be_made_and_a_value_may_be_checked_further():
    assert (Pair().left, Pair().right, Pair(right="a").right) == (2, None, "A")
    with pytest.raises(ConfigError, match="left must be at least 0, got -1"):
        Pair(left=-1)


def test_a_number_of_a_list_is_refused_by_the_rule_of_its_items():
    class Some(Settings):
        numbers: tuple[int, ...] = setting(default=(), items={"ge": 0, "le": 9}, description="some")

    with pytest.raises(ConfigError, match=r"numbers\.1 must be from 0 to 9, got -1"):
        Some.checked({"numbers": [3, -1]})
