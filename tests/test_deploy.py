"""What `deploy/` holds is what the program takes, and cron runs it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from charrnn.cli import main
from charrnn.cli_versions import LOCKED, STATUSES
from charrnn.recipe import write_recipe
from charrnn.retraining import train
from charrnn.store import Store
from tests.deploy.programs import needed
from tests.processes import until
from tests.training_runs import name_list, small_recipe

ROOT = Path(__file__).parent.parent
FILES = [
    path
    for path in sorted((ROOT / "deploy").rglob("*"))
    if path.is_file() and "charrnn retrain" in path.read_text().replace("-", " ")
]
UNITS = sorted((ROOT / "deploy").glob("*@.*"))
HOME = "/opt/charrnn"
NO_FAILURES = {*STATUSES.values(), LOCKED} - {0}
PATIENCE = 30.0  # seconds
CRON_PATIENCE = 150.0  # seconds: cron looks once a minute, and the machine may be busy


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


def settings_of(unit: Path) -> dict[str, list[str]]:
    """The section [Service] of a unit: a name may stand there several times."""
    section = unit.read_text().split("[Service]\n")[1].split("\n[")[0]
    pairs = [line.split("=", 1) for line in section.splitlines() if re.match(r"\w+=", line)]
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def test_systemd_knows_which_statuses_are_no_failures():
    (statuses,) = settings_of(ROOT / "deploy" / "charrnn-retrain@.service")["SuccessExitStatus"]
    assert set(map(int, statuses.split())) == NO_FAILURES


def verified(folder: Path, change: tuple[str, str] = ("", "")) -> str:
    """What systemd has to say of the units, each as an instance that could be started here."""
    program = needed("systemd-analyze", "`apt install systemd`")
    folder.mkdir()
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for unit in UNITS:
        text = unit.read_text().replace(HOME, str(folder)).replace(*change)
        (folder / unit.name.replace("@.", "@8001.")).write_text(text)
    units = sorted(map(str, folder.glob("charrnn*")))
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in done.stderr.splitlines() if "charrnn" in line)


def test_systemd_has_nothing_to_say_of_the_units(tmp_path):
    assert len(UNITS) == 3
    assert verified(tmp_path / "as-they-are") == ""
    assert "TimeoutStopSecs" in verified(tmp_path / "not", ("TimeoutStopSec=", "TimeoutStopSecs="))
    assert "not executable" in verified(tmp_path / "nor", ("bin/python", "bin/pithon"))


def test_the_unit_of_the_service_starts_it_as_systemd_expects(tmp_path):
    """Its command, told where to say that it is ready; SIGTERM then ends it in the unit's time."""
    settings = settings_of(ROOT / "deploy" / "charrnn@.service")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    given = dict(line.replace("%i", port).split("=", 1) for line in settings["Environment"])
    assert given.keys() >= {"CHARRNN_HOST", "CHARRNN_PORT", "CHARRNN_WEIGHTS", "CHARRNN_PROXIES"}
    given |= {"CHARRNN_WEIGHTS": str(tmp_path / "weights"), "CHARRNN_WORKERS": "1"}
    program, *arguments = settings["ExecStart"][0].split()
    assert (program, settings["WorkingDirectory"]) == (f"{HOME}/.venv/bin/python", [HOME])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE)
        given["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=given, stderr=subprocess.PIPE
        )
        try:
            assert settings["Type"] == ["notify"]
            assert b"READY=1" in heard.recv(1000)
            with socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE) as client:
                client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                assert client.recv(1000).split()[1] == b"200"
            process.send_signal(signal.SIGTERM)
            assert process.wait(int(settings["TimeoutStopSec"][0])) == 0
        finally:
            process.kill()
            process.communicate()
    text = (ROOT / "gunicorn.conf.py").read_text()
    graceful = re.search(r"(?m)^graceful_timeout = (\d+)", text)
    assert int(settings["TimeoutStopSec"][0]) > int(graceful[1])


def test_a_service_that_has_no_weights_is_not_started_again_and_again(tmp_path):
    (prevented,) = settings_of(ROOT / "deploy" / "charrnn@.service")["RestartPreventExitStatus"]
    folder = tmp_path / "weights" / "broken"
    folder.mkdir(parents=True)
    (folder / "CURRENT.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
        cwd=ROOT,
        env={**os.environ, "CHARRNN_WEIGHTS": str(tmp_path / "weights"), "CHARRNN_PORT": "0"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == int(prevented), done.stderr


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
        until(lambda: len(store.history("dinosaurs")) > 1, CRON_PATIENCE)
    assert store.history("dinosaurs")[1]["event"] == "promoted", (tmp_path / "log").read_text()
    assert store.live_version("dinosaurs") != first.version[:12]
