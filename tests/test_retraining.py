"""The first version, and those that follow: one at a time, none worse, nothing lost."""

import json
import sys
from weakref import WeakSet

import numpy as np
import pytest
from filelock import FileLock

from charrnn.checkpoint import RunFiles
from charrnn.config import TrainConfig
from charrnn.corpus import load_corpus
from charrnn.errors import (
    CharRNNError,
    ConfigError,
    CorpusError,
    LockedError,
    PromotionError,
    TrainingInterrupted,
    WeightsMissingError,
)
from charrnn.evaluation import evaluate
from charrnn.files import read_json_lines
from charrnn.generator import load
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.recipe import write_recipe
from charrnn.retraining import retrain, train
from charrnn.store import Store
from charrnn.training import Listener, Run
from tests import nights
from tests.nights import Place
from tests.training_runs import name_list, running_text, small_recipe


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
    assert retrain("small", store).event == "unchanged"
    again = retrain("small", store, force=True)
    assert again.trained.data == first.trained.data
    assert again.event == "unchanged"


class Meanwhile(Listener):
    """What somebody else does while the first version is trained."""

    def __init__(self, change):
        self.change = change

    def started(self, run):
        self.change()


def test_names_that_come_while_the_first_version_is_trained_are_learned_by_the_next(place):
    data, store = place
    names, longer = data / "names.txt", name_list(122)
    recipe = small_recipe("names").changed(data=[str(names)])
    first = train(recipe, data, store, listener=Meanwhile(lambda: names.write_text(longer)))
    learned_from = first.trained.model.provenance["data"]["sha256"]
    assert store.current("small").record["data_sha256"] == learned_from
    again = retrain("small", store, promote_anyway=True)
    assert again.promoted
    assert len(again.changes.added) == 2
    assert retrain("small", store).event == "unchanged"


def test_a_recipe_that_is_edited_while_the_first_version_is_trained_is_news_to_the_next(place):
    data, store = place
    path, recipe = data / "small.toml", small_recipe("names")
    edited = write_recipe(small_recipe("names", network={"hidden_size": 13}))
    listener = Meanwhile(lambda: path.write_text(edited))
    train(recipe, data, store, recipe_path=path, listener=listener)
    assert retrain("small", store).trained.model.config.hidden_size == 13


def test_a_first_version_whose_data_are_gone_at_its_end_goes_live(place):
    data, store = place
    names = data / "names.txt"
    listener = Meanwhile(lambda: names.rename(data / "moved.txt"))
    recipe = small_recipe("names")
    assert train(recipe, data, store, recipe_path=data / "small.toml", listener=listener).promoted
    with pytest.raises(CorpusError, match="is not there"):
        retrain("small", store)


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


def test_a_recipe_behind_a_link_is_followed_anew_and_its_data_lie_beside_the_link(place):
    data, store = place
    kept = data.parent / "kept"
    kept.mkdir()
    (data / "small.toml").rename(kept / "monday.toml")
    (data / "small.toml").symlink_to(kept / "monday.toml")
    train(small_recipe("names"), data, store, recipe_path=data / "small.toml")
    assert store.current("small").recipe == "data/small.toml"
    assert retrain("small", store).event == "unchanged"


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


def test_a_damaged_live_version_gives_way_to_the_best_kept_one_where_the_new_one_is_refused(place):
    data, store = place
    first = first_version(place, steps=150)
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=160)))
    second = retrain("small", store, promote_anyway=True)
    path = store.folder("small") / f"{second.version}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=3)))
    assert retrain("small", store).event == "refused"
    assert store.current("small").version == first.version
    assert [line["event"] for line in store.history("small")][-2:] == ["refused", "rolled back"]


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


def checkpoints(store):
    return [path.name for path in store.folder("small").rglob("*checkpoint*")]


def test_the_checkpoint_of_a_run_killed_once_it_was_written_down_is_no_ones(place, monkeypatch):
    data, store = place
    first_version(place)
    for seed in (2, 3):
        (data / "small.toml").write_text(write_recipe(small_recipe("names", random_seed=seed)))
        with monkeypatch.context() as killed:
            if seed == 2:
                killed.setattr(RunFiles, "clear", lambda self: None)
            assert retrain("small", store, promote_anyway=True).promoted
        assert checkpoints(store) == (["checkpoint.safetensors"] if seed == 2 else [])


def test_a_run_made_once_more_and_stopped_goes_on(place):
    _, store = place
    first = first_version(place)
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        retrain("small", store, force=True, stop=lambda: next(asked) == 35)
    assert checkpoints(store) == ["checkpoint.safetensors"]
    begun = []

    class Start(Listener):
        def started(self, run):
            begun.append(run.progress.step)

    again = retrain("small", store, force=True, listener=Start())
    assert begun[0] > 20
    assert again.version == first.version
    assert checkpoints(store) == []


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


# --- Nothing to do, and what changes that -------------------------------------------------------


class Untrained(Listener):
    def started(self, run):
        pytest.fail("it trained")


def test_nothing_is_done_where_nothing_has_changed(nightly):
    before = nightly.store.history("small")
    (nightly.data / "small.toml").write_text(
        "# another comment\n" + (nightly.data / "small.toml").read_text()
    )
    outcome = retrain("small", nightly.store, listener=Untrained())
    assert (outcome.event, outcome.version) == ("unchanged", nightly.live())
    assert nightly.store.history("small") == before


def test_a_refused_attempt_is_not_made_again_every_night(nightly):
    text = (nightly.data / "small.toml").read_text().replace("tolerance = 10.0", "tolerance = 0.0")
    (nightly.data / "small.toml").write_text(text.replace("steps = 20", "steps = 2"))
    assert retrain("small", nightly.store).event == "refused"
    again = retrain("small", nightly.store, listener=Untrained())
    assert again.event == "unchanged"
    assert again.reason.endswith("at the last attempt, which was refused")


@pytest.mark.parametrize("change", ["data", "recipe", "gate", "format", "damage", "force"])
def test_what_has_changed_is_trained_on(change, nightly, monkeypatch):
    recipe, options = nightly.data / "small.toml", {}
    if change == "data":
        (nightly.data / "names.txt").write_text(name_list(121))
    elif change == "recipe":
        nightly.write(7)
    elif change == "gate":
        recipe.write_text(recipe.read_text().replace("tolerance = 10.0", "tolerance = 9.0"))
    elif change == "format":
        monkeypatch.setattr("charrnn.retraining.TRAINING_FORMAT", 99)
    elif change == "damage":
        path = nightly.folder / f"{nightly.live()}.safetensors"
        path.chmod(0o644)
        path.write_bytes(b"x")
    else:
        options = {"force": True}
    outcome = retrain("small", nightly.store, **options)
    assert outcome.trained
    assert outcome.event == ("promoted" if change in ("data", "recipe", "damage") else "unchanged")
    assert nightly.live() == outcome.version


@pytest.mark.parametrize("setting", ["learning_rate", "weight_decay"])
def test_a_default_that_a_recipe_begins_or_ceases_to_say_is_news(setting, nightly):
    recipe, default = nightly.data / "small.toml", getattr(TrainConfig(), setting)
    before = recipe.read_text()
    assert setting not in before
    recipe.write_text(before.replace("[training]", f"[training]\n{setting} = {default}"))
    assert retrain("small", nightly.store, promote_anyway=True).promoted
    trained = load("small", weights=nightly.store).frozen.provenance["recipe"]["training"]
    assert trained[setting] == default
    assert retrain("small", nightly.store).event == "unchanged"
    recipe.write_text(before)
    assert retrain("small", nightly.store, promote_anyway=True).promoted
    trained = load("small", weights=nightly.store).frozen.provenance["recipe"]["training"]
    assert trained[setting] != default


def test_an_attempt_from_before_it_was_told_what_a_recipe_says_counts_as_it_was(nightly):
    path = nightly.folder / "history.jsonl"
    lines = [{k: v for k, v in line.items() if k != "said"} for line in read_json_lines(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert retrain("small", nightly.store, listener=Untrained()).event == "unchanged"


def test_a_fresh_clone_has_nothing_to_retrain_and_a_fresh_folder_is_filled(tmp_path):
    store = Store(tmp_path / "weights")
    outcome = retrain("dinosaurs", store, listener=Untrained())
    assert outcome.event == "unchanged"
    assert load("dinosaurs", weights=store).generate("Tyr", random_seed=1)


# --- What is written down -----------------------------------------------------------------------


def test_a_promotion_is_written_down_with_scores_hashes_duration_and_reason(nightly):
    nightly.write(3)
    outcome = retrain("small", nightly.store)
    line = nightly.store.history("small")[-1]
    assert line["version"] == outcome.version
    assert line["previous"] == outcome.previous
    assert line["reason"] == outcome.reason
    assert line["seconds"] > 0
    assert line["data_sha256"] == outcome.trained.model.provenance["data"]["sha256"]
    assert line["gate"]["live"]["version"] == outcome.previous
    assert line["gate"]["sanity"]["samples"] == 200
    assert dict(nightly.store.current("small").record) == line


def test_what_goes_live_whatever_the_gate_says_is_written_down(place):
    data, store = place
    first_version(place, steps=150)
    (data / "small.toml").write_text(write_recipe(small_recipe("names", steps=3)))
    outcome = retrain("small", store, promote_anyway=True)
    assert outcome.promoted
    assert outcome.anyway
    assert not outcome.verdict.passed
    line = store.history("small")[-1]
    assert line["anyway"] is True
    assert line["reason"].startswith("promoted anyway: ")
    assert not retrain("small", store, force=True).anyway


def test_each_run_leaves_a_report(nightly):
    (nightly.data / "names.txt").write_text(name_list(121) + "\nnewcomer")
    outcome = retrain("small", nightly.store)
    text = outcome.report.read_text()
    assert "newcomer" in text
    assert text.count("<li>") == 60
    assert "<svg" in text
    assert "newcomer" in outcome.changes.added
    assert json.loads(json.dumps(outcome.to_json()))["report"] == str(outcome.report)


def test_the_hook_hears_of_promotions_and_refusals_and_of_nothing_else(nightly):
    code = "import sys; open('heard', 'a').write(sys.stdin.read() + chr(10))"
    for seed in (1, 2):
        nightly.write(seed, hook=[sys.executable, "-c", code])
        retrain("small", nightly.store)
    retrain("small", nightly.store)
    heard = [json.loads(line) for line in (nightly.data / "heard").read_text().splitlines()]
    assert [each["outcome"] for each in heard] == ["promoted"] * 2
    assert heard[1]["version"] == nightly.live()
    assert heard[1]["gate"]["passed"] is True


def test_old_versions_go_where_the_recipe_says_how_many_stay(nightly):
    for seed in range(1, 5):
        nightly.write(seed, keep=2)
        outcome = retrain("small", nightly.store)
    kept = nightly.store.versions("small")
    assert outcome.version in kept
    assert len(kept) <= 3  # the two newest, and the best
    assert outcome.deleted


# --- Warm, and within its bounds ------------------------------------------------------------------


def test_a_warm_start_goes_on_from_the_live_weights_with_new_characters_too(place):
    data, store = place
    first = first_version(place, steps=150)
    (data / "names.txt").write_text(name_list(120) + "\nkaroß\nmituß\n")
    warm = retrain("small", store, warm_start=True)
    assert warm.warm_start == first.version
    assert warm.trained.model.provenance["warm_start"] == first.version
    assert "ß" in warm.trained.model.vocabulary.symbols
    path = store.folder("small") / "run" / "metrics.jsonl"
    first_look = read_json_lines(path)[0]["validation_loss"]
    cold = retrain("small", store, warm_start=False)
    assert cold.warm_start is None
    assert first_look < read_json_lines(path)[0]["validation_loss"] - 0.5


def test_a_warm_start_holds_what_one_run_does(place, monkeypatch):
    first_version(place, steps=5)
    runs, counts, made = WeakSet(), [], Run.__init__

    def counted(run, *args, **kwargs):
        runs.add(run)
        made(run, *args, **kwargs)

    class Counting(Listener):
        def started(self, run):
            counts.append(len(runs))

    monkeypatch.setattr(Run, "__init__", counted)
    assert retrain("small", place[1], force=True, warm_start=True, listener=Counting()).warm_start
    assert counts == [1]


def test_a_warm_start_of_another_shape_begins_cold(nightly):
    recipe = nightly.data / "small.toml"
    text = recipe.read_text().replace("hidden_size = 12", "hidden_size = 13")
    recipe.write_text(text + "warm_start = true\n")
    outcome = retrain("small", nightly.store)
    assert (outcome.event, outcome.warm_start) == ("promoted", None)


def test_a_run_that_would_take_too_much_memory_is_refused_with_file_and_line(nightly):
    nightly.write(5, memory=1)
    recipe = nightly.data / "small.toml"
    line = 1 + recipe.read_text().split("\n").index("memory = 1")
    with pytest.raises(
        ConfigError, match=rf"small.toml:{line}: retraining.memory must be at least"
    ):
        retrain("small", nightly.store)


def test_data_that_is_not_there_is_named_with_file_and_line(nightly):
    recipe = nightly.data / "small.toml"
    recipe.write_text(recipe.read_text().replace("names.txt", "gone.txt"))
    with pytest.raises(CorpusError, match=r"small.toml:\d+: data 'gone.txt' is not there"):
        retrain("small", nightly.store)


def test_another_recipe_can_be_named_and_is_the_models_from_then_on(nightly, tmp_path):
    text = (nightly.data / "small.toml").read_text()
    (nightly.data / "small.toml").unlink()
    with pytest.raises(PromotionError, match="name one with --recipe"):
        retrain("small", nightly.store)
    (tmp_path / "moved.toml").write_text(
        text.replace("names.txt", "data/names.txt").replace("steps = 20", "steps = 25")
    )
    assert retrain("small", nightly.store, recipe_path=tmp_path / "moved.toml").promoted
    assert retrain("small", nightly.store).event == "unchanged"


# --- Growth ---------------------------------------------------------------------------------------


def test_a_list_that_grows_night_by_night_is_learned_better_on_the_same_names(tmp_path):
    names = name_list(300).split("\n")
    place = Place(tmp_path, steps=150)
    whole = load_corpus_of(place, names)
    stable = list(whole.sequences["validation"])
    losses = []
    for night in range(1, 11):
        (place.data / "names.txt").write_text("\n".join(names[: 30 * night]))
        recipe = place.recipe(0, keep=None)
        (place.data / "small.toml").write_text(write_recipe(recipe))
        outcome = retrain("small", place.store)
        assert outcome.promoted
        held_out = set(outcome.trained.model.names) & set(stable)
        assert held_out.isdisjoint(load_corpus_of(place).sequences["train"])
        losses.append(loss_on(outcome.trained.model, stable))
    history = place.store.history("small")
    assert [line["event"] for line in history] == ["promoted"] * 11
    assert [line["added"] > 0 or k < 2 for k, line in enumerate(history)] == [True] * 11
    assert losses[-1] < losses[0] - 0.1
    assert np.polyfit(range(10), losses, 1)[0] < 0


def load_corpus_of(place, names=None):
    path = place.data / "names.txt"
    if names:
        path = place.data / "whole.txt"
        path.write_text("\n".join(names))
    return load_corpus([path], place.recipe(0).corpus)


def loss_on(model, names):
    known = [n for n in names if set(n) <= set(model.vocabulary.symbols)]
    assert len(known) == len(names)
    network = CharRNN(model.config, model.params)
    return evaluate(network, known, model.vocabulary, Workspace()).nats_per_character


def test_a_warm_retraining_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(tmp_path):
    versions = []
    for folder, stop_at in ((tmp_path / "calm", None), (tmp_path / "stopped", 12)):
        folder.mkdir()
        place = Place(folder, steps=20)
        (place.data / "names.txt").write_text(name_list(130))
        if stop_at:
            asked = iter(range(10**9))
            with pytest.raises(TrainingInterrupted):
                retrain("small", place.store, warm_start=True, stop=lambda a=asked: next(a) == 12)
        outcome = retrain("small", place.store, warm_start=True)
        assert outcome.warm_start == outcome.previous
        versions.append(outcome.version)
    assert versions[0] == versions[1]


def test_running_text_is_retrained_judged_and_reported_like_names(tmp_path):
    data, store = tmp_path / "data", Store(tmp_path / "weights")
    data.mkdir()
    recipe = small_recipe("text", steps=40).changed(gate=nights.LENIENT)
    (data / "text.txt").write_text(running_text(6_000))
    (data / "small.toml").write_text(write_recipe(recipe))
    train(recipe, data, store, recipe_path=data / "small.toml")
    (data / "text.txt").write_text(running_text(9_000))
    outcome = retrain("small", store)
    assert outcome.promoted
    assert outcome.verdict.sanity.novel is None
    assert outcome.verdict.live.sequences > 0
    assert outcome.report.read_text().count("<li>") == 60
    assert retrain("small", store).event == "unchanged"
