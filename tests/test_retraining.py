"""The first version, and those that follow: one at a time, none worse, nothing lost."""

import pytest
from filelock import FileLock

from charrnn.errors import (
    CharRNNError,
    CorpusError,
    LockedError,
    PromotionError,
    TrainingInterrupted,
    WeightsMissingError,
)
from charrnn.generator import load
from charrnn.recipe import write_recipe
from charrnn.retraining import retrain, train
from charrnn.store import Store
from tests.training_runs import name_list, small_recipe


@pytest.fixture
def place(tmp_path):
    """A folder with a list and a recipe, and a store beside."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "names.txt").write_text(name_list(120))
    (data / "small.toml").write_text(write_recipe(small_recipe("names")))
    return data, Store(tmp_path / "weights")


def first_version(place, **values):
    data, store = place
    recipe = small_recipe("names", **values)
    (data / "small.toml").write_text(write_recipe(recipe))
    return train(recipe, data, store, recipe_path=data / "small.toml")


def test_the_first_version_is_live_and_its_recipe_is_known(place):
    _, store = place
    outcome = first_version(place)
    current = store.current("small")
    assert outcome.promoted
    assert (current.version, current.recipe) == (outcome.version, "data/small.toml")
    assert load("small", weights=store).generate(count=2, random_seed=1)
    assert [line["event"] for line in store.history("small")] == ["promoted"]
    assert not (store.folder("small") / "run" / "checkpoint.safetensors").exists()


def test_a_bare_list_leaves_the_recipe_it_was_trained_by(place):
    data, store = place
    recipe = small_recipe("names").changed(data=[str(data / "names.txt")])
    first = train(recipe, data, store)
    assert store.current("small").recipe == "weights/small/recipe.toml"
    again = retrain("small", store, force=True)
    assert again.trained.data == first.trained.data
    assert again.event == "unchanged"


def test_a_name_that_is_live_is_refused_with_the_way_to_replace_it(place):
    first_version(place)
    with pytest.raises(PromotionError, match="python -m charrnn retrain small"):
        first_version(place)


def test_a_better_version_goes_live(place):
    data, store = place
    poor = first_version(place, steps=5)
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=150)))
    better = retrain("small", store)
    assert better.promoted
    assert better.trained.progress.best_loss < better.live_loss
    assert store.current("small").version == better.version != poor.version


def test_a_worse_version_is_kept_and_not_promoted(place):
    data, store = place
    good = first_version(place, steps=150)
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=3)))
    worse = retrain("small", store)
    assert not worse.promoted
    assert store.current("small").version == good.version
    assert sorted(store.versions("small")) == sorted([good.version, worse.version])
    assert store.history("small")[-1]["event"] == "refused"
    assert store.history("small")[-1]["reason"] == worse.reason


def test_the_live_version_is_judged_on_todays_names(place):
    data, store = place
    first_version(place)
    (data / "names.txt").write_text(name_list(120) + "\n" + name_list(60).replace("ka", "tumi"))
    outcome = retrain("small", store)
    before = store.history("small")[0]["evaluation"]["validation"]["nats_per_character"]
    assert outcome.live_loss != before


def test_names_that_the_live_version_cannot_read_are_left_out_of_the_comparison(place):
    data, store = place
    good = first_version(place, steps=150)
    added = "\n".join(n + "ß" for n in name_list(60).split("\n"))
    (data / "names.txt").write_text(f"{name_list(120)}\n{added}")
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=3)))
    worse = retrain("small", store)
    assert not worse.promoted
    assert "left out that can't be compared" in worse.reason
    assert store.current("small").version == good.version


def test_where_the_live_version_can_read_nothing_the_candidate_is_refused(place):
    data, store = place
    first_version(place)
    (data / "names.txt").write_text("\n".join(n + "ß" for n in name_list(120).split("\n")))
    outcome = retrain("small", store)
    assert not outcome.promoted
    assert "can read nothing of today's held-out data" in outcome.reason


def test_versions_of_another_rule_for_capitals_are_compared_on_what_both_can_write(place):
    data, store = place
    (data / "names.txt").write_text(name_list(120).title())
    first_version(place, steps=100)
    (data / "names.txt").write_text(name_list(120).title() + "\nKaMi")
    outcome = retrain("small", store)
    assert outcome.trained.model.vocabulary.case == "keep"
    assert outcome.live_loss is not None


def test_a_weights_folder_behind_a_link_is_the_same_folder(place):
    data, store = place
    first_version(place)
    link = data / "link"
    link.symlink_to(store.root)
    assert retrain("small", Store(link), force=True).event == "unchanged"


def test_data_that_cannot_be_read_leaves_no_folder_behind(place):
    data, store = place
    (data / "names.txt").write_bytes(b"\xff")
    with pytest.raises(CorpusError):
        first_version(place)
    assert not store.root.exists()


def test_a_damaged_live_version_gives_way(place):
    _, store = place
    first = first_version(place, steps=150)
    path = store.folder("small") / f"{first.version}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    outcome = retrain("small", store)
    assert outcome.promoted
    assert load("small", weights=store).generate(random_seed=1)


def test_two_at_once_is_refused_at_once(place):
    _, store = place
    first_version(place)
    with FileLock(store.folder("small") / "run" / "lock"), pytest.raises(LockedError, match="lock"):
        retrain("small", store)


def test_a_stopped_retraining_changes_nothing_and_goes_on(place):
    _, store = place
    first = first_version(place)
    live = (store.folder("small") / "CURRENT.json").read_bytes()
    asked = iter(range(10**9))
    with pytest.raises(TrainingInterrupted):
        retrain("small", store, force=True, stop=lambda: next(asked) == 20)
    assert (store.folder("small") / "CURRENT.json").read_bytes() == live
    assert retrain("small", store, force=True).trained.data == first.trained.data


def test_a_full_disk_at_the_end_leaves_what_was_live(place, monkeypatch):
    data, store = place
    first_version(place, steps=5)
    live = (store.folder("small") / "CURRENT.json").read_bytes()
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=150)))

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("charrnn.store.write_atomically", full)
    with pytest.raises((OSError, CharRNNError), match="No space left"):
        retrain("small", store)
    assert (store.folder("small") / "CURRENT.json").read_bytes() == live


def test_what_cannot_be_retrained_says_why(place):
    data, store = place
    with pytest.raises(WeightsMissingError, match="no model 'small'"):
        retrain("small", store)
    first_version(place)
    (data / "small.toml").unlink()
    with pytest.raises(PromotionError, match="names no recipe that is there"):
        retrain("small", store)
