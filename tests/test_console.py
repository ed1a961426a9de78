"""The program without its standard streams: full, closed, or with nobody who reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from charrnn.console import Lossy
from charrnn.store import Store
from tests.training_runs import name_list

ROOT = Path(__file__).parent.parent
on_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
full = pytest.param("2>/dev/full", marks=on_full)


def run(arguments, redirections="", **streams):
    """A command with some streams that are not ours."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # what is buffered at the end is a part of it
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m charrnn "$@" {redirections}', sys.executable, *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
        env=environment,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def unread():
    """The end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("redirections", [full, "<&- 2>&-"])
def test_a_training_that_nobody_can_hear_goes_live(redirections, tmp_path):
    data, weights = tmp_path / "names.txt", tmp_path / "weights"
    data.write_text(name_list(60))
    size = ("--steps", "20", "--hidden-size", "12")
    result = run(("train", str(data), *size, "--weights", str(weights)), redirections)
    assert result.returncode == 0
    assert "live: first version" in result.stdout
    assert Store(weights).models() == ["names"]


def test_the_status_of_a_retraining_is_what_came_of_it_whoever_reads(nightly, unread):
    command = ("retrain", "small", "--weights", str(nightly.store.root))
    before = nightly.live()
    nightly.write(1)
    assert run(command, stdout=unread, stderr=unread).returncode == 0
    assert nightly.live() != before
    assert run(command, stdout=unread, stderr=unread).returncode == 10


@on_full
def test_a_result_that_finds_no_room_is_told_on_stderr(nightly):
    weights = ("--weights", str(nightly.store.root))
    unchanged = run(("retrain", "small", "--json", *weights), ">/dev/full")
    assert unchanged.returncode == 10
    assert unchanged.stderr.startswith("the result could not be written to stdout: No space left")
    for command in (("models", *weights), ("--version",)):
        failed = run(command, ">/dev/full")
        assert failed.returncode == 1
        assert failed.stderr.startswith("error: the disk: No space left on device; make room")
        assert failed.stderr.count("\n") == 1


@on_full
def test_the_status_of_a_mistake_does_not_depend_on_its_line():
    assert run(("nonsense",), "2>/dev/full").returncode == 2


@pytest.mark.parametrize(("command", "status"), [(("score", "rex"), 2), (("chat", "rex"), 0)])
def test_a_closed_stdin_is_an_empty_one(command, status):
    result = run((*command, "--weights", str(ROOT / "weights")), "<&-")
    assert result.returncode == status
    assert "Traceback" not in result.stderr


def test_what_is_lost_counts_as_written(unread):
    with Lossy(unread, "w", closefd=False) as file:
        assert file.write(b"four") == 4
    read, write = os.pipe()
    with Lossy(write, "w") as file:
        assert file.write(b"four") == 4
        assert os.read(read, 9) == b"four"
    os.close(read)
