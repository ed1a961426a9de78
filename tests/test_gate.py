"""The gate: who is compared with whom, on what, and what is not let through."""

from dataclasses import replace

import numpy as np
import pytest

from charrnn.config import CorpusConfig, GateConfig
from charrnn.gate import REFUSED, REPEATING, judge, sanity_of
from charrnn.splits import split
from charrnn.store import Store
from charrnn.training import Run
from charrnn.weights import from_bytes, to_bytes
from tests import builders
from tests.training_runs import small_corpus, small_recipe

ANYTHING = {"most_empty": 1, "most_repeating": 1, "most_duplicates": 1, "least_novel": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, and networks that learned from it for 5, 60 and 150 steps."""
    corpus = small_corpus("names", tmp_path_factory.mktemp("made"))
    recipes = [small_recipe("names", steps=steps) for steps in (5, 60, 150)]
    return corpus, [Run(recipe, corpus).train() for recipe in recipes]


@pytest.fixture
def place(tmp_path, made):
    corpus, trained = made
    store = Store(tmp_path / "weights")
    versions = [store.add("small", each.data) for each in trained]
    store.promote("small", versions[0], reason="first")
    return store, corpus, versions


def verdict(place, k, made, **config):
    store, corpus, versions = place
    gate = GateConfig.checked({**ANYTHING, **config})
    return judge(store, "small", versions[k], made[1][k].model, corpus, gate)


def test_a_better_version_passes_and_is_the_best(place, made):
    found = verdict(place, 2, made)
    assert found.passed
    assert found.best == place[2][2]
    assert found.live.loss > found.live.candidate_loss
    assert found.live.sequences == len(made[0].sequences["validation"])


def test_a_version_is_held_against_the_best_kept_one_not_the_live_one_alone(place, made):
    versions = place[2]
    found = verdict(place, 1, made)
    assert found.live.behind < 0
    assert not found.passed
    assert versions[2][:12] in found.reason
    assert found.best == versions[2]


def test_versions_that_were_refused_or_can_not_be_read_are_not_measured_by(place, made):
    store, _, versions = place
    store.note("small", REFUSED, versions[2], reason="not sane")
    assert verdict(place, 1, made).passed
    store.promote("small", versions[2], reason="by hand")
    store.promote("small", versions[0], reason="back")
    assert not verdict(place, 1, made).passed
    path = store.folder("small") / f"{versions[2]}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    assert verdict(place, 1, made).passed


def test_the_tolerance_is_the_recipes(place, made):
    gap = max(rival.behind for rival in verdict(place, 1, made).rivals)
    assert gap > 0
    assert verdict(place, 1, made, tolerance=gap * 1.001).passed
    assert not verdict(place, 1, made, tolerance=gap * 0.999).passed


def test_small_losses_do_not_add_up(place, made):
    store, _, versions = place
    store.promote("small", versions[1], reason="within the tolerance of the best")
    gap = max(rival.behind for rival in verdict(place, 1, made).rivals)
    # Hardly worse than the live version, but out of the tolerance of the best one kept.
    corpus, trained = made
    params = trained[1].model.params.astype(np.float32)
    params["out.c"][:] += np.linspace(0, 0.2, len(params["out.c"]), dtype=np.float32)
    worse = from_bytes(to_bytes(replace(trained[1].model, params=params)))
    version = store.add("small", to_bytes(worse))
    config = GateConfig.checked({**ANYTHING, "tolerance": gap})
    found = judge(store, "small", version, worse, corpus, config)
    assert 0 < found.live.behind < gap
    assert not found.passed


def test_names_that_a_version_has_learned_from_are_left_out(place, made):
    store, corpus, _ = place
    values = {"salt": "another", "validation": 0.4}
    other = CorpusConfig.checked({"kind": "names", "case": "keep", **values})
    shuffled = replace(corpus, sequences=split(corpus.names, other))
    recipe = small_recipe("names", steps=20)
    recipe = recipe.changed(corpus=recipe.corpus.changed(**values))
    trained = Run(recipe, shuffled).train()
    version = store.add("small", trained.data)
    config = GateConfig.checked(ANYTHING)
    found = judge(store, "small", version, trained.model, shuffled, config)
    learned = set(corpus.sequences["train"])
    fair = [name for name in shuffled.sequences["validation"] if name not in learned]
    assert found.live.sequences == len(fair)
    assert found.live.left_out == len(shuffled.sequences["validation"]) - len(fair) > 0


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"most_duplicates": 0.5}, "texts drawn before must be from 0% to 50% of 50, got "),
        ({"most_novel": 0.9}, "names that are not in the list must be from 0% to 90% of 50, got 1"),
    ],
)
def test_a_version_that_ends_at_once_is_no_model_whatever_its_loss(place, made, bound, message):
    store, corpus, _ = place
    silent = with_bias(made[1][2].model, corpus.vocabulary.end)
    version = store.add("small", to_bytes(silent))
    config = GateConfig.checked({**ANYTHING, "samples": 50, "tolerance": 10, **bound})
    found = judge(store, "small", version, silent, corpus, config)
    assert not found.passed
    assert message in found.reason


def with_bias(model, id_):
    """A network that can't help writing one symbol."""
    params = model.params.astype(np.float32)
    params["out.c"][id_] = 50.0
    return from_bytes(to_bytes(replace(model, params=params)))


def test_a_version_that_writes_blanks_is_seen(tmp_path):
    corpus = small_corpus("text", tmp_path)
    model = Run(small_recipe("text", steps=2), corpus).train().model
    sanity = sanity_of(with_bias(model, corpus.vocabulary.symbols.index(" ")), 5)
    assert (sanity.empty, sanity.repeating, sanity.novel) == (1, 1, None)


def test_a_version_that_repeats_itself_is_seen(made):
    corpus, trained = made
    stuck = with_bias(trained[2].model, corpus.vocabulary.symbols.index("a"))
    sanity = sanity_of(stuck, 20)
    assert (sanity.repeating, sanity.novel) == (1, 1)
    assert sanity.duplicates == 0.95


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("aaaaa", True),
        ("aaaa", False),
        ("xabababababx", True),
        ("banana", False),
        ("tumitumitumitumitumi", True),
        ("Tyrannosaurus", False),
    ],
)
def test_repeating_is_one_to_four_characters_five_times_running(text, repeats):
    assert bool(REPEATING.search(text)) == repeats


def test_a_bound_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match="least_novel must be at most most_novel"):
        GateConfig.checked({"least_novel": 0.9, "most_novel": 0.5})


def test_a_model_of_random_weights_is_judged_without_a_live_one(tmp_path, made):
    store, _ = builders.store_of(tmp_path, 1, name="other")
    (store.folder("other") / "CURRENT.json").unlink()
    corpus, trained = made
    config = GateConfig.checked(ANYTHING)
    found = judge(store, "other", trained[0].version, trained[0].model, corpus, config)
    assert found.passed
    assert not found.live_is_whole
    assert "missing or damaged" in found.reason
