import os
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import charrnn
from api import create_app
from api import models as models_module
from api.errors import RequestError, StartError
from api.models import OLD_VERSIONS_KEPT, Models
from api.settings import ServiceSettings
from charrnn.errors import WeightsCorruptError, WeightsMissingError
from charrnn.parameters import Parameters
from charrnn.weights import to_bytes
from tests.api import tiny


@pytest.fixture
def loads(monkeypatch):
    """How often each (model, version) is loaded; None is the live one."""
    counted: Counter[tuple[str, str | None]] = Counter()

    def load(name, *, version=None, weights=None):
        counted[name, version] += 1
        return real_load(name, version=version, weights=weights)

    real_load = charrnn.load
    monkeypatch.setattr(charrnn, "load", load)
    return counted


def test_the_default_is_dinosaurs_where_it_is_there_and_else_the_first(weights, tmp_path):
    assert Models(weights.store).default == "dinosaurs"
    assert Models(weights.store, "elves").default == "elves"
    store = charrnn.Store(tmp_path)
    for name in ("orcs", "dwarves"):
        tiny.promote(store, name, seed=0)
    assert Models(store).default == "dwarves"


def test_a_version_is_loaded_once_for_all_requests(weights, loads):
    models = Models(weights.store)
    for _ in range(3):
        models.get()
        for version in (weights.live, weights.live[:12], weights.live[:8]):
            assert models.get("dinosaurs", version) is models.get()
        for length in (8, 12, 64):
            assert models.get("dinosaurs", weights.old[:length]).version == weights.old[:12]
    assert loads == {
        ("dinosaurs", None): 1,
        ("elves", None): 1,
        ("prose", None): 1,
        ("dinosaurs", weights.old): 1,
    }


def test_a_version_is_loaded_once_by_threads_that_ask_at_once(weights, loads):
    models = Models(weights.store)
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        models.get("dinosaurs", weights.old)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads["dinosaurs", weights.old] == 1


def test_only_a_few_old_versions_are_kept(tmp_path, loads):
    store = charrnn.Store(tmp_path)
    versions = [tiny.promote(store, "elves", seed=n) for n in range(OLD_VERSIONS_KEPT + 2)]
    models = Models(store)
    for version in versions:
        models.get("elves", version)
    models.get("elves", versions[1])
    assert loads["elves", versions[1]] == 1, "still kept"
    models.get("elves", versions[0])
    assert loads["elves", versions[0]] == 2, "the one unused for longest went"


def test_a_version_that_is_gone_is_404_even_where_it_was_loaded(own_weights):
    models = Models(own_weights.store)
    models.get("dinosaurs", own_weights.old)
    (own_weights.store.folder("dinosaurs") / f"{own_weights.old}.safetensors").unlink()
    with pytest.raises(RequestError, match="model dinosaurs has no version") as caught:
        models.get("dinosaurs", own_weights.old)
    assert caught.value.status == 404
    assert own_weights.live[:12] in str(caught.value)


def test_the_live_version_is_there_by_every_length_of_its_name_though_its_file_is_gone(own_weights):
    models = Models(own_weights.store)
    (own_weights.store.folder("dinosaurs") / f"{own_weights.live}.safetensors").unlink()
    for length in (6, 12, 64):
        assert models.get("dinosaurs", own_weights.live[:length]) is models.get()


def test_nobody_but_who_asks_waits_for_an_old_version(own_weights, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()
    models, old = Models(own_weights.store), own_weights.old

    def slow_load(name, *, version=None, weights=None):
        if version == old:
            loading.set()
            assert go_on.wait(timeout=10)
        return real_load(name, version=version, weights=weights)

    real_load = charrnn.load
    monkeypatch.setattr(charrnn, "load", slow_load)
    asking = threading.Thread(target=models.get, args=("dinosaurs", old))
    asking.start()
    assert loading.wait(timeout=10)
    for seed in (98, 99):
        new = tiny.promote(own_weights.store, "dinosaurs", seed=seed)
        before = models.get().version
        models.refresh()
        assert models.get().version == new[:12]
        assert models.get("dinosaurs", before).version == before, "it is kept"
    go_on.set()
    asking.join()


def test_a_record_of_other_words_is_seen_though_its_size_and_time_are_the_same(own_weights):
    models, store = Models(own_weights.store), own_weights.store
    path = store.folder("dinosaurs") / "CURRENT.json"
    before = path.stat()
    path.write_text(path.read_text().replace(own_weights.live, own_weights.old))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    models.refresh()
    assert models.get().version == own_weights.old[:12]


def test_in_a_process_that_is_behind_the_version_before_a_bad_one_is_served(own_weights, loads):
    """As in the worker that takes a dead one's place, which begins where the service did."""
    models, store = Models(own_weights.store), own_weights.store
    good = tiny.promote(store, "elves", seed=99)
    bad = tiny.promote(store, "elves", seed=98)
    (store.folder("elves") / f"{bad}.safetensors").unlink()
    models.refresh()
    assert models.get("elves").version == good[:12]
    loads.clear()
    models._refused.clear()  # so that it is tried again
    models.refresh()
    assert loads[("elves", good)] == 0, "it is there"


def test_weights_whose_products_are_no_numbers_are_not_served(own_weights, caplog):
    models, store = Models(own_weights.store), own_weights.store
    frozen, _ = store.load("elves")
    params = {name: np.array(array) for name, array in frozen.params.items()}
    params["out.V"].fill(3e38)
    params["layers.0.b"].fill(1)
    too_large = replace(frozen, params=Parameters.from_arrays(params))
    before, version = models.get("elves").version, store.add("elves", to_bytes(too_large))
    store.promote("elves", version, reason="a test")
    models.refresh()
    assert models.get("elves").version == before
    assert "its logits are not finite" in caplog.text


def test_what_becomes_live_is_served_from_the_next_look_on(own_weights):
    models = Models(own_weights.store)
    before = models.get("elves")
    new = tiny.promote(own_weights.store, "elves", seed=99)
    assert models.get("elves") is before, "a request never looks"
    models.refresh()
    assert models.get("elves").version == new[:12]
    assert models.get("dinosaurs").version == own_weights.live[:12]
    assert models.live()["elves"].version == new[:12]


def test_a_version_that_is_no_longer_live_is_still_there_without_loading(own_weights, loads):
    models = Models(own_weights.store)
    before = models.get("elves")
    tiny.promote(own_weights.store, "elves", seed=99)
    models.refresh()
    loads.clear()
    assert models.get("elves", before.version) is before
    assert not loads


def test_a_look_that_finds_nothing_new_reads_no_file(own_weights, loads, monkeypatch):
    models = Models(own_weights.store)
    loads.clear()
    monkeypatch.setattr(charrnn.Store, "current", lambda *_: pytest.fail("it was read"))
    for _ in range(3):
        models.refresh()
    assert not loads


def test_a_model_that_appears_is_served_from_the_next_look_on(own_weights):
    models = Models(own_weights.store)
    with pytest.raises(RequestError, match="there is no model 'goblins'"):
        models.get("goblins")
    new = tiny.promote(own_weights.store, "goblins", seed=5)
    tiny.promote(own_weights.store, "trolls", seed=6)
    models.refresh()
    assert models.get("goblins").version == new[:12]
    assert list(models.live()) == ["dinosaurs", "elves", "goblins", "prose", "trolls"]


def test_a_model_that_is_removed_is_404_and_who_has_it_goes_on(own_weights):
    models = Models(own_weights.store)
    elves = models.get("elves")
    shutil.rmtree(own_weights.store.folder("elves"))
    models.refresh()
    assert "elves" not in models.live()
    for version in (None, elves.version):
        with pytest.raises(RequestError, match="there is no model 'elves'; the known ones are d"):
            models.get("elves", version)
    assert elves.generate(random_seed=1)
    new = tiny.promote(own_weights.store, "elves", seed=7)
    models.refresh()
    assert models.get("elves").version == new[:12], "it may come again"


def test_where_no_default_was_named_the_next_one_takes_its_place(own_weights):
    models = Models(own_weights.store)
    assert models.get().name == "dinosaurs"
    shutil.rmtree(own_weights.store.folder("dinosaurs"))
    models.refresh()
    assert models.get().name == "elves"


def test_a_default_that_was_named_is_never_replaced_by_another(own_weights):
    models = Models(own_weights.store, "elves")
    shutil.rmtree(own_weights.store.folder("elves"))
    models.refresh()
    with pytest.raises(RequestError, match="there is no model 'elves'; the known ones are dino"):
        models.get()


def test_a_folder_emptied_of_models_serves_none_and_one_that_is_gone_changes_nothing(
    own_weights, caplog
):
    models = Models(own_weights.store)
    old = models.get("dinosaurs", own_weights.old)
    away = own_weights.store.root.rename(own_weights.store.root.with_name("away"))
    for _ in range(3):
        models.refresh()
    assert models.get().name == "dinosaurs", "as when a disk is not there for a moment"
    assert models.get("dinosaurs", own_weights.live[:6]) is models.get()
    assert models.get("dinosaurs", own_weights.old) is old
    with pytest.raises(RequestError, match="has no version 'abcdef'"):
        models.get("dinosaurs", "abcdef")
    assert caplog.text.count("the weights folder can't be read") == 1
    away.rename(own_weights.store.root)
    for name in ("dinosaurs", "elves", "prose"):
        shutil.rmtree(own_weights.store.folder(name))
    models.refresh()
    assert models.live() == {}
    with pytest.raises(RequestError, match="there is no model ''; the known ones are none at the"):
        models.get()


def test_a_damaged_model_that_appears_is_left_out_and_seldom_tried_again(
    own_weights, loads, caplog, monkeypatch
):
    models = Models(own_weights.store)
    tiny.promote(own_weights.store, "goblins", seed=5)
    damage(own_weights, "goblins")
    loads.clear()
    for _ in range(5):
        models.refresh()
        with pytest.raises(RequestError) as caught:
            models.get("goblins")
        assert caught.value.status == 404
    assert loads.total() == 1
    monkeypatch.setattr(models_module, "RETRY_SECONDS", -1)
    tiny.promote(own_weights.store, "elves", seed=99)  # a try at another model changes nothing
    models.refresh()
    assert caplog.text.count("model goblins is left out") == 1


@pytest.mark.parametrize("name", ["../dinosaurs", "", "A", "\0", "x" * 1000, "no"])
def test_a_name_that_is_no_model_is_404(weights, name):
    with pytest.raises(RequestError) as caught:
        Models(weights.store).get(name)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "error",
    [
        WeightsCorruptError("cut short"),
        WeightsMissingError("gone"),
        OSError("disk"),
        RuntimeError("a bug of ours"),
    ],
)
@pytest.mark.parametrize("broken", ["charrnn.load", "charrnn.Store.current"])
def test_what_can_not_be_loaded_leaves_the_old_version_is_logged_and_counted_once(
    own_weights, monkeypatch, caplog, error, broken
):
    monkeypatch.setattr(models_module, "RETRY_SECONDS", -1)
    counted = []
    models = Models(own_weights.store, on_reload=lambda *each: counted.append(each))
    before = models.get("elves").version
    new = tiny.promote(own_weights.store, "elves", seed=99)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        for _ in range(3):
            models.refresh()
            assert models.get("elves").version == before
    assert caplog.text.count(f"model elves stays at {before}: {error}") == 1
    models.refresh()
    assert models.get("elves").version == new[:12], "it is loaded once it can be"
    assert counted == [("elves", False), ("elves", True)]


def test_a_good_version_after_a_bad_one_is_not_kept_waiting(own_weights):
    models = Models(own_weights.store)
    tiny.promote(own_weights.store, "elves", seed=98)
    damage(own_weights, "elves")
    models.refresh()
    new = tiny.promote(own_weights.store, "elves", seed=99)
    models.refresh()
    assert models.get("elves").version == new[:12]


def test_requests_go_on_while_a_new_version_is_being_loaded(own_weights, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()
    models = Models(own_weights.store)
    before = models.get("elves").version
    new = tiny.promote(own_weights.store, "elves", seed=99)

    def slow_load(*arguments, **keywords):
        loading.set()
        assert go_on.wait(timeout=10)
        return real_load(*arguments, **keywords)

    real_load = charrnn.load
    monkeypatch.setattr(charrnn, "load", slow_load)
    loader = threading.Thread(target=models.refresh)
    loader.start()
    assert loading.wait(timeout=10)
    models.refresh()  # it doesn't wait either
    assert models.get("elves").version == before
    assert list(models.live()) == ["dinosaurs", "elves", "prose"]
    go_on.set()
    loader.join()
    assert models.get("elves").version == new[:12]


def test_what_a_first_request_would_work_out_is_there_when_a_version_is_served(own_weights):
    elves = Models(own_weights.store).get("elves")
    assert {"compiled", "_asking"} <= set(vars(elves))
    assert {"block", "rows", "many"} <= set(vars(elves.compiled))


def damage(weights, name, version=None):
    """A version's file is cut short; without one that of the live version."""
    version = version or weights.store.current(name).version
    path = weights.store.folder(name) / f"{version}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("what", ["its file", "its record"])
def test_a_service_begins_with_the_version_before_one_that_can_not_be_loaded(
    own_weights, caplog, what
):
    old = own_weights.store.current("elves").version
    new = tiny.promote(own_weights.store, "elves", seed=99)
    if what == "its file":
        damage(own_weights, "elves")
    else:  # whose history still tells what is live
        (own_weights.store.folder("elves") / "CURRENT.json").write_text("{")
        damage(own_weights, "elves", new)
    counted = []
    models = Models(own_weights.store, on_reload=lambda *each: counted.append(each))
    models.refresh()
    assert models.get("elves").version == old[:12]
    assert caplog.text.count(f"model elves stays at {old[:12]}: ") == 1
    assert counted == [("elves", False)]
    newest = tiny.promote(own_weights.store, "elves", seed=98)
    models.refresh()
    assert models.get("elves").version == newest[:12]


def test_a_service_begins_with_the_live_version_by_the_history_where_its_record_is_damaged(
    own_weights,
):
    live = own_weights.store.current("dinosaurs").version
    (own_weights.store.folder("dinosaurs") / "CURRENT.json").write_text("{")
    assert Models(own_weights.store).get("dinosaurs").version == live[:12]


def test_a_model_that_can_not_be_loaded_is_left_out_and_logged(own_weights, caplog):
    damage(own_weights, "dinosaurs")
    damage(own_weights, "dinosaurs", own_weights.old)
    models = Models(own_weights.store)
    assert models.default == "elves"
    assert list(models.live()) == ["elves", "prose"]
    assert "model dinosaurs is left out: " in caplog.text
    with pytest.raises(RequestError, match="no model 'dinosaurs'; the known ones are elves, pro"):
        models.get("dinosaurs")


def test_a_service_with_nothing_to_serve_says_what_to_do(own_weights, tmp_path):
    root = own_weights.root
    what_to_do = "train one with `python -m charrnn train my-list.txt`, or set CHARRNN_WEIGHTS to"

    assert refusal(own_weights.store, "unicorns").startswith(
        f"CHARRNN_MODEL is 'unicorns', and {root} has no such model that can be loaded; the known"
    )
    for name in ("dinosaurs", "elves", "prose"):
        damage(own_weights, name)
    damage(own_weights, "dinosaurs", own_weights.old)
    message = refusal(own_weights.store)
    assert message.startswith(f"no model in {root} can be loaded (dinosaurs: ")
    assert what_to_do in message
    for empty in (tmp_path / "empty", tmp_path / "nowhere"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        message = refusal(charrnn.Store(empty))
        assert message.startswith(f"there is no trained model in {empty}; {what_to_do}")


def test_a_folder_of_weights_that_can_not_be_read_says_so(own_weights, monkeypatch):
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(charrnn.Store, "models", fail)
    message = refusal(own_weights.store)
    assert message.startswith(f"{own_weights.root} can't be read: Permission denied; train one")


def refusal(store: charrnn.Store, model: str | None = None) -> str:
    with pytest.raises(StartError) as caught:
        create_app(ServiceSettings(model=model), store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_products_that_depend_on_the_batch_are_logged_at_start(weights, monkeypatch, caplog):
    monkeypatch.setattr("charrnn.rows_are_exact", lambda _, steps: False)
    Models(weights.store)
    assert "may give another text under load" in caplog.text


def test_the_promise_is_tried_once_for_networks_of_one_shape(own_weights, monkeypatch):
    tried = []
    monkeypatch.setattr("charrnn.rows_are_exact", lambda model, steps: tried.append(model) or True)
    models = Models(own_weights.store)
    shapes = {each.model.config for each in models.live().values()}
    assert len(tried) == len(shapes)
    tiny.promote(own_weights.store, "elves", seed=99)
    models.refresh()
    assert len(tried) == len(shapes)


def test_a_model_that_can_not_be_looked_at_keeps_no_other_from_being_served(
    own_weights, monkeypatch, caplog
):
    models = Models(own_weights.store)
    whole, own = Path.stat, own_weights.store.folder("dinosaurs") / "CURRENT.json"

    def stat(self, **keywords):
        if self == own:  # not those that threads of other tests look at
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self, **keywords)

    monkeypatch.setattr(Path, "stat", stat)
    before = models.get("elves").version
    tiny.promote(own_weights.store, "elves", seed=99)
    for _ in range(3):
        models.refresh()
    assert models.get("elves").version != before
    assert models.get("dinosaurs")
    assert caplog.text.count("model dinosaurs can't be looked at") == 1
