"""The Makefile, in a copy of it with a stand-in for Python."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

STAND_IN = r"""#!/bin/sh
# Answers what make asks of an interpreter; only notes what it would install or run.
case "$2" in *create_server*) [ -e check-port ] || exit 0 ;; esac
[ "$1" = -c ] && exec "{python}" "$@"
echo "$2 $3" >>calls
case "$2" in
    venv) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    pip) [ ! -e no-network ] && [ -z "$PIP_TARGET" ] && [ "$PIP_USER" = 0 ] ;;
    gunicorn) echo "$CHARRNN_HOST $CHARRNN_PORT $*" ;;
esac
"""


class Checkout:
    """A folder with a Makefile, requirement files, and a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests").mkdir(parents=True)
        (folder / "requirements.txt").touch()
        (folder / "tests/requirements.txt").touch()
        shutil.copy(ROOT / "Makefile", folder)
        self.python = self.script("python", STAND_IN.format(python=sys.executable))

    def script(self, name: str, text: str) -> Path:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def make(self, *goals: str, **environment: str) -> subprocess.CompletedProcess[str]:
        make = shutil.which("make")
        if make is None:
            pytest.skip("make is not installed")
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **environment}
        return subprocess.run(
            [make, *goals], cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def refusal(self, *goals: str, **environment: str) -> str:
        """The one line that make says when it refuses; nothing was installed or run."""
        done = self.make(*goals, **environment)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert self.calls() == []
        return done.stderr

    def calls(self) -> list[str]:
        """What the stand-in was asked to do since the last time."""
        notes = self.folder / "calls"
        lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a check out")


SET_UP = ["venv --clear", "pip install"]


def test_make_alone_lists_every_goal(checkout):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    listed = re.findall(r"^  make (\w+) ", checkout.make().stdout, flags=re.MULTILINE)
    assert phony
    assert set(listed) == set(phony[1].split()) - {"anew"}


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python", "bin/too old"])
def test_a_python_that_will_not_do_is_refused_in_one_line(checkout, python):
    checkout.script("too old", "#!/bin/sh\nexit 1\n")
    line = checkout.refusal("serve", f"PYTHON={python}")
    assert f"PYTHON={python} is not Python 3.11 to 3.13: install it or name it" in line


def test_no_python_at_all_is_refused_in_one_line(checkout):
    checkout.script("python3", "#!/bin/sh\nexit 1\n")
    line = checkout.refusal("test", PATH=str(checkout.folder / "bin"))
    assert "Python 3.11 to 3.13 is not on the PATH" in line
    assert "`make test PYTHON=" in line


def test_a_python_without_its_venv_module_is_refused_in_one_line(checkout):
    text = STAND_IN.format(python=sys.executable)
    bare = text.replace("*create_server*)", "*ensurepip*) exit 1 ;; *create_server*)")
    line = checkout.refusal("serve", f"PYTHON={checkout.script('bare', bare)}")
    assert f"`apt install python3.{sys.version_info.minor}-venv`" in line


def test_the_newest_python_that_will_do_is_taken(checkout):
    checkout.script("python3.13", "#!/bin/sh\nexit 1\n")
    checkout.script("python3.12", STAND_IN.format(python=sys.executable))
    path = f"{checkout.folder / 'bin'}:/usr/bin:/bin"
    assert checkout.make("serve", PATH=path).stdout.startswith("Making .venv with python3.12\n")


def test_the_environment_is_set_up_once(checkout):
    assert checkout.make("serve", f"PYTHON={checkout.python}").returncode == 0
    assert checkout.calls() == [*SET_UP, "gunicorn -c"]
    checkout.make("serve")
    assert checkout.calls() == ["gunicorn -c"]


def test_the_environment_of_the_tests_serves_too(checkout):
    checkout.make(".venv/.tests", f"PYTHON={checkout.python}")
    assert checkout.calls() == SET_UP
    checkout.make("-j4", ".venv/.runtime", ".venv/.tests")
    assert checkout.calls() == []


def test_both_goals_at_once_make_one_environment(checkout):
    checkout.make("-j4", ".venv/.runtime", ".venv/.tests", f"PYTHON={checkout.python}")
    assert checkout.calls() == [*SET_UP, "pip install"]


def test_changed_requirements_are_installed_into_the_same_environment(checkout):
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    checkout.calls()
    stamp = checkout.folder / ".venv/.runtime"
    os.utime(stamp, (0, stamp.stat().st_mtime - 60))
    checkout.make(".venv/.runtime")
    assert checkout.calls()[-1:] == ["pip install"]


def test_an_environment_that_is_half_made_is_made_anew(checkout):
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    checkout.calls()
    (checkout.folder / ".venv/.installing").touch()  # as after a power cut
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    assert checkout.calls() == SET_UP


def test_an_environment_that_lost_its_python_is_made_anew(checkout):
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    checkout.calls()
    (checkout.folder / ".venv/bin/python").unlink()
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    assert checkout.calls() == SET_UP


def test_a_missing_network_is_told_in_one_line_and_tried_again(checkout):
    away = checkout.folder / "no-network"
    away.touch()
    done = checkout.make("serve", f"PYTHON={checkout.python}")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert said == [
        "requirements.txt could not be installed: is the network up? .venv/pip.log tells more"
    ]
    assert "gunicorn -c" not in checkout.calls()
    away.unlink()
    assert checkout.make("serve", f"PYTHON={checkout.python}").returncode == 0
    assert checkout.calls()[-1:] == ["gunicorn -c"]


def test_pip_settings_can_not_send_packages_elsewhere(checkout):
    elsewhere = {"PIP_TARGET": "/no/such/folder", "PIP_USER": "1"}
    assert checkout.make("serve", f"PYTHON={checkout.python}", **elsewhere).returncode == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "127.0.0.1 8000"),
        ({"PORT": "8123"}, "127.0.0.1 8123"),
        ({"PORT": "8123", "CHARRNN_PORT": "8456"}, "127.0.0.1 8123"),
        ({"CHARRNN_PORT": "8456", "CHARRNN_HOST": "0.0.0.0"}, "0.0.0.0 8456"),
    ],
)
def test_the_service_listens_where_it_is_told(checkout, environment, expected):
    done = checkout.make("serve", f"PYTHON={checkout.python}", **environment)
    assert f"{expected} -m gunicorn -c gunicorn.conf.py wsgi:app\n" in done.stdout


def test_a_port_in_use_is_refused_in_one_line(checkout):
    checkout.make(".venv/.runtime", f"PYTHON={checkout.python}")
    checkout.calls()
    (checkout.folder / "check-port").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = checkout.refusal("serve", f"PORT={port}")
    assert f"port {port} " in line
    assert "in use" in line
    assert "`make serve PORT=8001`" in line
