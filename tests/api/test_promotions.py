"""A retraining beside a service under load: nobody notices but by better names."""

from pathlib import Path

from benchmarks.nightly import recipe, under_load
from charrnn.store import Store


def test_a_retraining_under_load_fails_no_request_and_its_version_is_soon_served(tmp_path: Path):
    store = Store(tmp_path / "weights")
    night, noticed = under_load(store, recipe(tmp_path, 2, quick=True))
    assert night.status == 0
    assert set(noticed.statuses) == {200}
    assert len(noticed.latencies) > 50
    assert list(noticed.first_seen)[-1] == store.live_version("dinosaurs")
    assert len(noticed.first_seen) == 2
    # The service looks twice a second; benchmarks/nightly.py measures it on an idle machine.
    assert noticed.delay < 10
