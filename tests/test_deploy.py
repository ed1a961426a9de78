"""What `deploy/` holds is what the program takes, and cron runs it."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from charrnn.cli import main
from charrnn.cli_versions import LOCKED, STATUSES, WRONG
from charrnn.recipe import write_recipe
from charrnn.retraining import train
from charrnn.store import Store
from tests.processes import until
from tests.training_runs import name_list, small_recipe

ROOT = Path(__file__).parent.parent
FILES = [path for path in sorted((ROOT / "deploy").iterdir()) if "retrain" in path.read_text()]
NO_FAILURES = {*STATUSES.values(), LOCKED} - {0}
PATIENCE = 150.0  # seconds: cron looks once a minute, and the machine may be busy


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_in_it_have_the_options_that_they_show(path):
    lines = re.findall(r"-m charrnn (\w+) (.*)", path.read_text())
    assert lines or path.suffix == ".timer"
    for command, rest in lines:
        known = CliRunner().invoke(main, [command, "--help"]).output
        assert all(option in known for option in re.findall(r"--[\w-]+", rest))


def test_weights_lie_outside_the_checkout():
    for path in FILES:
        if path.suffix != ".timer":
            weights = re.findall(r"CHARRNN_WEIGHTS(?:=|\s+value: )(\S+)", path.read_text())
            assert weights == ["/var/lib/charrnn/weights"], path.name


def test_systemd_and_kubernetes_know_which_statuses_are_no_failures():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy" / "charrnn-retrain@.service")
    assert set(map(int, unit["Service"]["SuccessExitStatus"].split())) == NO_FAILURES
    job = (ROOT / "deploy" / "cronjob.yaml").read_text()
    fine = re.search(r"case \$status in ([\d|]+)\) exit 0", job)
    assert set(map(int, fine[1].split("|"))) == NO_FAILURES
    assert re.search(r"action: FailJob.*?values: \[(\d+)\]", job, re.DOTALL)[1] == str(WRONG)


def test_the_units_are_valid_where_systemd_can_tell():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    units = [str(path) for path in FILES if path.suffix in (".service", ".timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60
    )
    ours = [line for line in done.stderr.splitlines() if "not executable" not in line]
    assert not [line for line in ours if "charrnn-retrain" in line and "Unknown" in line]


def unless_in_ci(reason: str) -> None:
    """CI has a cron daemon and may use it; elsewhere the test is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to run cron: {reason}")
    pytest.skip(reason)


def cron() -> str:
    """The daemon, which must be there, and may be used."""
    program = shutil.which("cron", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("crontab") is None:
        unless_in_ci("cron is not installed")
    if os.geteuid() != 0:
        unless_in_ci("a cron daemon of one's own needs root")
    if subprocess.run(["crontab", "-l"], capture_output=True).returncode == 0:
        unless_in_ci("this user has a crontab, which the test would replace")
    return str(program)


@contextmanager
def cron_at_work(table: Path) -> Iterator[None]:
    """A cron daemon that knows a table, or the one that is at work already."""
    program = cron()
    subprocess.run(["crontab", str(table)], check=True)
    daemon = subprocess.Popen([program, "-f"], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["crontab", "-r"], check=True)
        daemon.kill()  # by its own id: it has ended already where another one is at work
        daemon.wait()


def test_the_crontab_line_retrains_under_a_real_cron(tmp_path):
    app, data, store = tmp_path / "app", tmp_path / "data", Store(tmp_path / "weights")
    data.mkdir()
    (data / "names.txt").write_text(name_list(120))
    recipe = small_recipe("names", steps=5).changed(name="dinosaurs")
    (data / "small.toml").write_text(write_recipe(recipe))
    first = train(recipe, data, store, recipe_path=data / "small.toml")
    (data / "small.toml").write_text(
        write_recipe(small_recipe("names", steps=150).changed(name="dinosaurs"))
    )
    python = app / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (app / "charrnn").symlink_to(ROOT / "charrnn")
    text = (ROOT / "deploy" / "crontab").read_text()
    for name, value in (
        ("APP", app),
        ("LOG", tmp_path / "log"),
        ("CHARRNN_WEIGHTS", store.root),
    ):
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert count == 1
    text, count = re.subn(r"(?m)^17 3 \* \* \* ", "* * * * * ", text)
    assert count == 1
    (tmp_path / "crontab").write_text(text)
    with cron_at_work(tmp_path / "crontab"):
        until(lambda: len(store.history("dinosaurs")) > 1, PATIENCE)
    assert store.history("dinosaurs")[1]["event"] == "promoted", (tmp_path / "log").read_text()
    assert store.live_version("dinosaurs") != first.version[:12]
