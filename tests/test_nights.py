"""Nights that go wrong: kills, full disks and damage leave the old version or the new one."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from charrnn.retraining import retrain
from charrnn.versions import rollback
from tests import nights
from tests.nights import Place
from tests.processes import until


def kill_while_retraining(folder, kills):
    done = subprocess.run(
        [sys.executable, "-m", "tests.nights", "kills", str(folder), str(kills)],
        cwd=nights.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kills_leave_the_old_version_or_the_new_one(tmp_path):
    kill_while_retraining(tmp_path, 4)


@pytest.mark.prove
def test_two_hundred_kills_leave_the_old_version_or_the_new_one(tmp_path):
    kill_while_retraining(tmp_path, 200)


def test_of_two_at_once_one_is_told_so_and_a_killed_holder_blocks_nobody(nightly):
    nightly.write(1, steps=1_000_000)
    first = nightly.start()
    try:
        metrics = nightly.folder / "run" / "metrics.jsonl"
        until(lambda: metrics.read_text().count("\n") > 10, 60)  # the run before left three
        status, out, errors = nightly.run()
        assert (status, out) == (12, "")
        assert "wait for it to end" in errors
    finally:
        first.kill()
        first.communicate()
    nightly.write(1)
    assert nightly.run()[0] == 0


@contextmanager
def small_disk(folder, kilobytes):
    """A file system of its own, of so many kilobytes; skips where there can be none."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_files_that_may_not_grow_leave_what_was_live(nightly):
    before = nightly.live()
    nightly.write(1)
    status, _, errors = nightly.run(preexec_fn=limited)
    assert status == 1
    assert "error: " in errors
    assert "Traceback" not in errors
    assert nightly.live() == before
    assert nightly.run()[0] == 0
    assert nightly.live() != before
    assert nightly.strays() == []


def test_a_full_disk_leaves_what_was_live_and_the_next_night_goes_through(tmp_path):
    with small_disk(tmp_path / "disk", 200):
        nightly = Place(tmp_path / "disk", steps=20)
        before, ballast = nightly.live(), tmp_path / "disk" / "ballast"
        nightly.write(1)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        status, _, errors = nightly.run()
        assert status == 1
        assert "No space left on device" in errors
        assert "Traceback" not in errors
        assert nightly.live() == before
        ballast.unlink()
        assert nightly.run()[0] == 0
        assert nightly.live() != before
        assert nightly.strays() == []


@contextmanager
def read_only(folder):
    """Nothing below can be written; root is held back only by the file system."""
    if os.geteuid() == 0:
        change = ["mount", "-o", "remount,{}", str(folder)]
        names = ("ro", "rw")
    else:
        change = ["chmod", "-R", "u{}w", str(folder)]
        names = ("-", "+")
    subprocess.run([word.format(names[0]) for word in change], check=True)
    try:
        yield
    finally:
        subprocess.run([word.format(names[1]) for word in change], check=True)


def test_a_read_only_folder_is_one_line_and_what_was_live_is_live(tmp_path):
    disk = small_disk(tmp_path / "disk", 800)
    (tmp_path / "disk").mkdir()
    with disk if os.geteuid() == 0 else contextlib.nullcontext():
        nightly = Place(tmp_path / "disk", steps=20)
        before = nightly.live()
        nightly.write(1)
        with read_only(tmp_path / "disk"):
            status, _, errors = nightly.run()
        assert status == 1
        assert errors.count("\n") == 1
        assert "Read-only file system" in errors or "Permission denied" in errors
        assert nightly.live() == before
        assert nightly.run()[0] == 0


def test_a_clock_that_is_set_back_changes_nothing_but_the_times_shown(nightly, monkeypatch):
    versions = [nightly.live()]
    for seed, year in ((1, 2031), (2, 1999), (3, 1999)):
        monkeypatch.setattr("charrnn.store._now", lambda y=year: f"{y}-01-01T00:00:00+00:00")
        nightly.write(seed)
        outcome = retrain("small", nightly.store)
        assert outcome.promoted
        assert outcome.previous == versions[-1]
        versions.append(outcome.version)
    assert [line["version"] for line in nightly.store.history("small")] == versions
    assert retrain("small", nightly.store).event == "unchanged"
    assert rollback("small", nightly.store).version == versions[2]


def test_a_damaged_record_of_what_is_live_is_mended_by_the_next_night(nightly):
    (nightly.folder / "CURRENT.json").write_bytes(b"{")
    nightly.write(1)
    assert retrain("small", nightly.store).promoted
    assert nightly.live()
