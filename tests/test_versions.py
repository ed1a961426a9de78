"""Which version is live: going there by hand, going back, and clearing away."""

import pytest
from filelock import FileLock

from charrnn.errors import LockedError, PromotionError, WeightsMissingError
from charrnn.store import Store
from charrnn.versions import (
    alone,
    announce_candidate,
    best_known,
    promote,
    prune,
    recipe_of,
    report_path,
    rollback,
    settle_candidate,
)
from charrnn.weights import to_bytes
from tests import builders


@pytest.fixture
def place(tmp_path):
    """A model whose versions 0, 1, 2 and 3 went live in turn."""
    store, versions = builders.store_of(tmp_path / "weights", 4)
    for version in versions[1:]:
        store.promote("tiny", version, reason="better", recipe="data/tiny.toml")
    return store, versions


def live(store):
    return store.current("tiny").version


def test_a_rollback_goes_back_step_by_step_and_is_written_down(place):
    store, versions = place
    for version in versions[2::-1]:
        current = rollback("tiny", store)
        assert current.version == live(store) == version
    assert [line["event"] for line in store.history("tiny")][-3:] == ["rolled back"] * 3
    assert store.current("tiny").recipe == "data/tiny.toml"
    with pytest.raises(PromotionError, match="no version before the live one"):
        rollback("tiny", store)


def test_what_was_rolled_back_is_not_gone_back_to(place):
    store, versions = place
    rollback("tiny", store)  # to 2
    extra = store.add("tiny", to_bytes(builders.frozen(9)))
    store.promote("tiny", extra, reason="better")
    assert rollback("tiny", store).version == versions[2]
    assert rollback("tiny", store).version == versions[1]


def test_a_rollback_passes_over_versions_that_are_gone_or_damaged(place):
    store, versions = place
    store.remove("tiny", versions[2])
    path = store.folder("tiny") / f"{versions[1]}.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"x")
    assert rollback("tiny", store).version == versions[0]


def test_a_rollback_does_not_ask_the_clock(place, monkeypatch):
    store, versions = place
    monkeypatch.setattr("charrnn.store._now", lambda: "1999-12-31T23:59:59+00:00")
    assert rollback("tiny", store).version == versions[2]
    assert rollback("tiny", store).version == versions[1]
    assert len(store.history("tiny")) == 6


def test_a_version_can_be_named(place):
    store, versions = place
    assert rollback("tiny", store, versions[0][:8]).version == versions[0]
    assert promote("tiny", versions[3][:8], store).version == versions[3]
    assert store.history("tiny")[-1]["reason"] == "by hand"


def test_a_damaged_record_of_what_is_live_is_replaced(place):
    store, versions = place
    (store.folder("tiny") / "CURRENT.json").write_bytes(b"{")
    assert recipe_of(store, "tiny") == "data/tiny.toml"
    assert promote("tiny", versions[3], store).version == versions[3]


def test_what_can_not_be_done_is_refused_and_changes_nothing(place):
    store, versions = place
    before = (store.folder("tiny") / "history.jsonl").read_bytes()
    for change, error, message in (
        (lambda: promote("tiny", versions[3], store), PromotionError, "is live already"),
        (lambda: rollback("tiny", store, versions[3]), PromotionError, "is live already"),
        (lambda: rollback("tiny", store, "000000"), WeightsMissingError, "doesn't exist"),
        (lambda: promote("none", "000000", store), WeightsMissingError, "no model 'none'"),
        (lambda: rollback("none", store), WeightsMissingError, "no model 'none'"),
        (lambda: prune("none", store, 1), WeightsMissingError, "no model 'none'"),
    ):
        with pytest.raises(error, match=message):
            change()
    assert (store.folder("tiny") / "history.jsonl").read_bytes() == before
    assert not store.folder("none").exists()


def test_a_locked_model_is_left_alone(place):
    store, versions = place
    with alone(store, "tiny"):
        for change in (
            lambda: promote("tiny", versions[0], store),
            lambda: rollback("tiny", store),
            lambda: prune("tiny", store, 1),
        ):
            with pytest.raises(LockedError, match="wait for it to end"):
                change()
    assert live(store) == versions[3]
    with FileLock(store.folder("tiny") / "run" / "lock", timeout=0):
        pass  # it was let go of


def test_prune_keeps_the_newest_the_live_one_and_the_one_before(place):
    store, versions = place
    report = report_path(store, "tiny", versions[0])
    report.parent.mkdir(parents=True, exist_ok=True)
    report.touch()
    assert prune("tiny", store, 4) == []
    assert set(prune("tiny", store, 1)) == set(versions[:2])
    assert set(store.versions("tiny")) == set(versions[2:])
    assert not report.exists()


def test_prune_spares_what_is_live_what_ships_and_the_best(place):
    store, versions = place
    (store.folder("tiny") / "SHIPPED").write_text(f"{versions[0]}\n")
    rollback("tiny", store, versions[1])
    store.note("tiny", "refused", versions[3], reason="x", details={"gate": {"best": versions[2]}})
    extra = [store.add("tiny", to_bytes(builders.frozen(n))) for n in (8, 9)]
    assert best_known(store, "tiny") == versions[2]
    assert set(prune("tiny", store, 1)) == set(extra)
    assert set(store.versions("tiny")) == set(versions)


def test_prune_deletes_nothing_where_it_can_not_be_told_what_is_live(place):
    store, versions = place
    (store.folder("tiny") / "CURRENT.json").write_bytes(b"{")
    with pytest.raises(Exception, match="promote a version anew"):
        prune("tiny", store, 1)
    assert store.versions("tiny") == sorted(versions)


def test_a_fresh_folder_is_filled_before_anything_is_asked_of_it(place, tmp_path):
    shipped, versions = place
    store = Store(tmp_path / "fresh", shipped=shipped.root)
    assert rollback("tiny", store).version == versions[2]
    assert live(shipped) == versions[3]


def test_a_candidate_that_a_killed_run_left_is_removed(place):
    store, versions = place
    model = to_bytes(builders.frozen(9))
    with alone(store, "tiny"):
        announce_candidate(store, "tiny", builders.sha256_of(model))
        stray = store.add("tiny", model)
    with alone(store, "tiny"):
        assert stray not in store.versions("tiny")
    with alone(store, "tiny"):
        announce_candidate(store, "tiny", stray)
        store.add("tiny", model)
        store.note("tiny", "refused", stray, reason="x")
    with alone(store, "tiny"):  # its fate is known: it stays
        assert set(store.versions("tiny")) == {*versions, stray}
        settle_candidate(store, "tiny")
