"""deploy/Dockerfile: linted, and what it says is done here without Docker: the folders that it
copies, the bytecode, the user, the command and the check of its health. Only the packages are those
of the tests, since these run offline.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from api.settings import ServiceSettings
from tests.api.server import PATIENCE, ROOT, Log, Server, stop
from tests.deploy.programs import needed

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
HOME = "/opt/charrnn"
VOLUME = "/var/lib/charrnn"


@dataclass(frozen=True)
class Line:
    """An instruction: COPY, and what it is told."""

    word: str
    rest: str

    def listed(self) -> list[str]:
        """The program and its arguments, of one in the form of JSON."""
        found = json.loads(self.rest[self.rest.index("[") :])
        assert all(isinstance(each, str) for each in found)
        return list(found)


def stages() -> list[list[Line]]:
    """The instructions of each stage."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    lines = [Line(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    starts = [k for k, line in enumerate(lines) if line.word == "FROM"]
    return [lines[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


BUILD, FINAL = stages()


def of(stage: list[Line], word: str) -> list[Line]:
    return [line for line in stage if line.word == word]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in of(FINAL, "ENV") for pair in line.rest.split())


def copied() -> list[str]:
    """What comes from the repository."""
    names = [name for line in of(BUILD, "COPY") for name in line.rest.split()[:-1]]
    assert len(names) == len(set(names))
    return names


# --- As it is written -----------------------------------------------------------------------------


def test_the_linter_has_nothing_to_say():
    hadolint = needed("hadolint", "it is in tests/requirements.txt")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_fault_would_be_found(tmp_path):
    hadolint = needed("hadolint", "it is in tests/requirements.txt")
    text = (
        DOCKERFILE.read_text()
        .replace("FROM ${PYTHON}", "FROM python")
        .replace("WORKDIR /", "WORKDIR ")
    )
    (tmp_path / "Dockerfile").write_text(text)
    done = subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 1
    assert {"DL3006", "DL3000"} <= set(re.findall(r"DL\d+", done.stdout))


def test_packages_are_locked_wheels_and_the_last_stage_runs_nothing():
    (install,) = [line.rest for line in of(BUILD, "RUN") if "pip" in line.rest]
    for option in ("--require-hashes", "--only-binary :all:", "-r requirements.txt"):
        assert option in install
    assert not of(FINAL, "RUN")  # no time, no log and no cache gets into it
    assert not re.search(r"apt-get|gcc|build-essential", DOCKERFILE.read_text())


def test_it_holds_what_the_ignore_file_lets_through_and_nothing_else():
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())
    assert "weights/*/run" in rules


def test_it_runs_as_nobody_with_settings_that_the_service_knows():
    (user,) = of(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user.rest)
    assert f"--chown={user.rest} " in of(FINAL, "COPY")[1].rest
    settings = ServiceSettings.from_environment(environment())
    assert settings.host == "0.0.0.0"
    assert str(settings.weights).startswith(of(FINAL, "VOLUME")[0].rest + "/")
    assert of(FINAL, "EXPOSE")[0].rest == str(settings.port)
    assert of(FINAL, "WORKDIR")[0].rest == of(BUILD, "WORKDIR")[0].rest == HOME


# --- As it runs -----------------------------------------------------------------------------------


def ignored(folder: str, names: list[str]) -> set[str]:
    """What .dockerignore leaves out of the folders that it lets through."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    here = Path(folder).relative_to(ROOT)
    return {
        name
        for name in names
        for rule in rules
        if rule and not rule.startswith(("#", "!")) and rule != "*"
        if fnmatch(name, rule[3:]) or fnmatch(str(here / name), rule)
    }


def user_of_the_image() -> dict[str, Any]:
    """How `subprocess` takes the image's user, where this one may become another."""
    user, group = map(int, of(FINAL, "USER")[0].rest.split(":"))
    who: dict[str, Any] = {"user": user, "group": group, "extra_groups": []}
    with suppress(OSError, subprocess.SubprocessError):
        if subprocess.run([sys.executable, "-c", "import flask"], **who).returncode == 0:
            return who
    return {}


@pytest.fixture
def image():
    """A folder that is as the image's /opt/charrnn, beside one that is as its volume."""
    base = Path(tempfile.mkdtemp(prefix="charrnn-image-"))  # where any user can look
    base.chmod(0o755)
    home, volume = base / "home", base / "volume"
    (home / ".venv" / "bin").mkdir(parents=True)
    volume.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, home / name)
    python = home / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for line in of(BUILD, "RUN"):
        if "pip" not in line.rest:
            subprocess.run(["sh", "-ec", line.rest], cwd=home, check=True)
    who = user_of_the_image()
    if who:
        os.chown(volume, who["user"], who["group"])
    yield home, volume, who
    shutil.rmtree(base)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def there(text: str, home: Path, volume: Path) -> str:
    return text.replace(HOME, str(home)).replace(VOLUME, str(volume))


def test_its_command_serves_from_a_folder_that_stays_as_it_is(image):
    home, volume, who = image
    before = snapshot(home)
    assert any(name.endswith(".pyc") for name in before)
    assert not any("/run/" in name or name.endswith(".tmp") for name in before)
    variables = {name: there(text, home, volume) for name, text in environment().items()}
    variables |= {"CHARRNN_HOST": "127.0.0.1", "CHARRNN_PORT": "0", "CHARRNN_WORKERS": "1"}
    program, *arguments = of(FINAL, "CMD")[0].listed()
    process = subprocess.Popen(
        [shutil.which(program, path=variables["PATH"]), *arguments],
        cwd=home,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
        **who,
    )
    log = Log(process)
    try:
        found = re.search(r"listening on http://([\d.]+):(\d+)", log.wait_for("Booting worker"))
        server = Server(process, found[1], int(found[2]), log)
        answer = server.send(b"POST /generate HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        assert (answer.status, json.loads(answer.body)["model"]) == (200, "dinosaurs")
        check = there(of(FINAL, "HEALTHCHECK")[0].rest, home, volume)
        program, *arguments = Line("CMD", check).listed()
        healthy = [shutil.which(program, path=variables["PATH"]), *arguments]
        variables["CHARRNN_PORT"] = found[2]
        assert subprocess.run(healthy, env=variables).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert subprocess.run(healthy, env=variables, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        stop(process)
    assert snapshot(home) == before
    assert {path.name for path in (volume / "weights").iterdir()} == {"dinosaurs", "rex"}


def test_the_command_that_fills_a_volume_of_kubernetes_does(image):
    home, volume, who = image
    variables = {name: there(text, home, volume) for name, text in environment().items()}
    python = str(home / ".venv" / "bin" / "python")
    subprocess.run([python, "-c", "import wsgi"], cwd=home, env=variables, check=True, **who)
    assert (volume / "weights" / "dinosaurs" / "CURRENT.json").is_file()
