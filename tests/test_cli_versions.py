"""The commands of who runs models, as a person and a script meet them."""

import json

import pytest
from click.testing import CliRunner

from charrnn.cli import main
from tests.nights import Place


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model with two versions that went live, and a folder of weights that is the default."""
    place = Place(tmp_path, steps=20)
    monkeypatch.setenv("CHARRNN_WEIGHTS", str(place.store.root))
    # What the command does to its own process would stay with the tests.
    monkeypatch.setattr("charrnn.retraining.step_back", lambda nice: None)
    place.first = place.live()
    place.write(1)
    assert charrnn("retrain", "small", "--quiet").exit_code == 0
    place.second = place.live()
    return place


def charrnn(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_retrain_tells_a_script_what_came_of_it_by_its_status(place):
    assert charrnn("retrain", "small", "--quiet").exit_code == 10
    recipe = place.data / "small.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("tolerance = 10.0", "tolerance = 0").replace("= 20", "= 2"))
    refused = charrnn("retrain", "small", "--quiet")
    assert refused.exit_code == 11, refused.output
    assert "not promoted: validation loss" in refused.stdout
    assert "python -m charrnn promote small" in refused.stdout
    recipe.write_text(text + "\nnonsense = 1\n")
    wrong = charrnn("retrain", "small", "--quiet")
    assert wrong.exit_code == 2
    line = 1 + recipe.read_text().split("\n").index("nonsense = 1")
    assert f"small.toml:{line}: retraining.nonsense is not a known field" in wrong.stderr
    recipe.write_text(text)
    (place.data / "names.txt").write_bytes(b"\xff")
    assert charrnn("retrain", "small", "--quiet").exit_code == 2
    assert charrnn("retrain", "nothing").exit_code == 1
    assert place.live() == place.second


def test_the_result_is_one_json_object_for_machines(place):
    unchanged = json.loads(charrnn("retrain", "small", "--quiet", "--json").stdout)
    assert (unchanged["outcome"], unchanged["version"]) == ("unchanged", place.second)
    place.write(2)
    done = json.loads(charrnn("retrain", "small", "--quiet", "--json").stdout)
    assert (done["outcome"], done["previous"]) == ("promoted", place.second)
    assert done["version"] == place.live()
    assert done["gate"]["passed"] is True
    assert set(done["seconds"]) == {"training", "gate", "all"}
    assert done.keys() == unchanged.keys()


def test_history_shows_what_was_live_when_and_why(place):
    charrnn("rollback", "small")
    lines = charrnn("history", "small").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == ["promoted"] * 2
    assert "first version" in lines[1]
    assert "rolled back" in lines[3]
    assert place.first[:12] in lines[3]
    kept = json.loads(charrnn("history", "small", "--json").stdout)
    assert kept == place.store.history("small")
    assert charrnn("history", "nothing").exit_code == 1


def test_there_and_back_by_hand(place):
    assert charrnn("rollback", "small").stdout.startswith(f"small: {place.first[:12]} is live")
    assert charrnn("promote", "small", place.second[:6]).exit_code == 0
    assert charrnn("rollback", "small", "--to", place.first[:6]).exit_code == 0
    assert place.live() == place.first
    for arguments, message in (
        (("promote", "small", place.first), "is live already"),
        (("rollback", "small"), "no version before"),
        (("rollback", "small", "--to", "000000"), "doesn't exist"),
        (("promote", "nothing", "000000"), "no model 'nothing'"),
    ):
        result = charrnn(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr


def test_prune_says_what_went_and_refuses_to_keep_none(place):
    place.write(2, keep=None)
    charrnn("retrain", "small", "--quiet")
    place.write(3, keep=None)
    charrnn("retrain", "small", "--quiet")
    kept = len(place.store.versions("small"))
    said = charrnn("prune", "small", "--keep", 1).stdout.splitlines()
    assert len(said) - 1 == kept - len(place.store.versions("small")) > 0
    assert charrnn("prune", "small", "--keep", 0).exit_code == 2
    assert place.live()
