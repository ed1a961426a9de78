import gc
import os
import threading
import weakref

import pytest

from api import watching
from api.models import Models
from api.watching import Watcher
from tests.api import tiny


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def models(own_weights):
    return Models(own_weights.store)


def looked(models: Models, times: int, monkeypatch) -> threading.Event:
    """An event that is set once the models have been refreshed so many times from now on."""
    enough, count, refresh = threading.Event(), iter(range(1, times + 1)), models.refresh

    def counted() -> None:
        refresh()
        if next(count, times) == times:
            enough.set()

    monkeypatch.setattr(models, "refresh", counted)
    return enough


def test_what_was_promoted_before_the_start_is_there_after_it(models, own_weights, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 1000)
    new = tiny.promote(own_weights.store, "elves", seed=99)
    watcher = Watcher(models)
    watcher.start()
    assert models.get("elves").version == new[:12]
    watcher.stop()


def test_what_is_promoted_later_is_served_without_a_request(models, own_weights, monkeypatch):
    watcher = Watcher(models)
    watcher.start()
    new = tiny.promote(own_weights.store, "elves", seed=99)
    assert looked(models, 2, monkeypatch).wait(10)
    assert models.get("elves").version == new[:12]
    watcher.stop()


def test_a_process_has_one_thread_and_a_forked_one_its_own(models, monkeypatch):
    watcher = Watcher(models)
    before = threading.active_count()
    for _ in range(3):
        watcher.start()
    assert threading.active_count() == before + 1
    monkeypatch.setattr(os, "getpid", lambda: -1)
    watcher.start()
    assert threading.active_count() == before + 2
    watcher.stop()


def test_a_look_that_crashes_is_logged_and_is_not_the_last(models, monkeypatch, caplog):
    watcher = Watcher(models)
    watcher.start()
    enough, failed = threading.Event(), threading.Event()

    def refresh() -> None:
        if failed.is_set():
            enough.set()
        failed.set()
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(models, "refresh", refresh)
    assert enough.wait(10)
    assert "a bug of ours" in caplog.text
    watcher.stop()


def test_the_thread_ends_with_the_models_that_it_watches(own_weights):
    models = Models(own_weights.store)
    Watcher(models).start()
    (thread,) = [each for each in threading.enumerate() if each.name == "watcher"][-1:]
    gone = weakref.ref(models)
    del models
    gc.collect()
    thread.join(10)
    assert gone() is None
    assert not thread.is_alive()
