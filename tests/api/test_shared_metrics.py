import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import values

from api import shared_metrics
from api.contract import EVERYWHERE, ROUTES
from api.metrics import Metrics
from tests.api.server import ROOT

COUNT_IN_FORKS = """
import os, sys
from api import shared_metrics
shared_metrics.prepare()
shared_metrics.prepare()  # as at SIGHUP
from api.metrics import Metrics
metrics = Metrics()

def worker(age, seconds):
    shared_metrics.take_slot(age)
    pid = os.fork()
    if not pid:
        shared_metrics.enter_slot(age)
        metrics.request_ended("/x", "GET", 200, seconds)
        metrics.batch(3)
        sys.exit()  # as a worker ends: with what is registered for the end of a process
    os.waitpid(pid, 0)

for age in range(1, 6):
    worker(age, 0.1)
    if age < 5:
        shared_metrics.leave_slot(age)
print(metrics.text({}).decode())
print(*sorted(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
print(os.environ["PROMETHEUS_MULTIPROC_DIR"])
"""


def test_workers_that_follow_each_other_count_on_in_one_file():
    command = [sys.executable, "-c", COUNT_IN_FORKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    *text, files, folder = done.stdout.splitlines()
    assert 'charrnn_requests_total{method="GET",route="/x",status="200"} 5.0' in text
    assert 'charrnn_request_seconds_count{route="/x"} 5.0' in text
    assert "charrnn_batch_sequences 3.0" in text, "what the dead were doing is over"
    slots = {name.rpartition("_")[2] for name in files.split() if name.endswith(".db")}
    assert slots == {"master.db", "0.db"}
    assert not Path(folder).exists()


LOSE_THE_FOLDER = """
import errno, os, shutil, sys
from api import shared_metrics
shared_metrics.prepare()
from api.metrics import Metrics
metrics = Metrics()
folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]

def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

for age in (1, 2, 3):
    shared_metrics.take_slot(age)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        shared_metrics.leave_slot(age)
        continue
    if age == 3:
        os.posix_fallocate = full
        shared_metrics.ROOM["gauge"] += 1
    shared_metrics.enter_slot(age)
    for _ in range(3):
        metrics.request_ended("/x", "GET", 200, 0.1)
        shutil.rmtree(folder, ignore_errors=age != 1)
        metrics.text({})
        metrics.request_ended("/x", "GET", 200, 0.1)
        print(metrics.text({}).count(b'status="200"} 1.0'), flush=True)
    sys.exit()
print(os.path.isdir(folder))
"""


def test_a_folder_that_is_removed_or_has_no_room_fails_no_request():
    command = [sys.executable, "-c", LOSE_THE_FOLDER]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["1"] * 6 + ["0"] * 3 + ["True"]
    assert "counting begins anew" in done.stderr
    assert "what this worker counts can't be in" in done.stderr


def test_the_files_have_room_for_every_route_and_status(tmp_path, monkeypatch):
    """So that they are never enlarged, for which there may be no room later."""
    monkeypatch.setenv(shared_metrics.VARIABLE, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: "0"))
    monkeypatch.setattr(values, "MmapedDict", shared_metrics._file)
    metrics = Metrics()
    for (method, path), route in ROUTES.items():
        for status in (200, 499, *EVERYWHERE, *route.refusals):
            metrics.request_ended(path, method, status, 0.1)
    for path in tmp_path.glob("*.db"):
        used = int.from_bytes(path.read_bytes()[:4], sys.byteorder)
        assert used <= path.stat().st_size == shared_metrics.ROOM[path.name.partition("_")[0]]


def test_the_first_free_slot_is_taken(monkeypatch):
    monkeypatch.setattr(shared_metrics, "_slots", {})
    monkeypatch.setattr(shared_metrics, "mark_process_dead", lambda _: None)
    for age in (1, 2, 3):
        shared_metrics.take_slot(age)
    shared_metrics.leave_slot(2)
    shared_metrics.leave_slot(2)  # told twice
    shared_metrics.take_slot(4)
    assert shared_metrics._slots == {1: "0", 3: "2", 4: "1"}


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_folder_is_swept_once_nobody_has_it(tmp_path, is_locked):
    folder = tmp_path / f"{shared_metrics.PREFIX}x"
    folder.mkdir()
    (folder / "counter_0.db").touch()
    (tmp_path / "another's").mkdir()
    owner = os.open(folder / shared_metrics.OWNED, os.O_CREAT | os.O_RDWR)
    if is_locked:
        fcntl.flock(owner, fcntl.LOCK_EX)
    shared_metrics._sweep(tmp_path)
    os.close(owner)
    assert folder.exists() == is_locked
    assert (tmp_path / "another's").exists()
