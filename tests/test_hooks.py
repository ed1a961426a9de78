"""The operator's command: what it hears, and that it harms nothing."""

import json
import sys
import time

import pytest

from charrnn.hooks import run_hook
from tests.processes import alive, until


def test_it_is_given_the_result_on_its_stdin(tmp_path):
    code = "import sys; open('heard.json', 'w').write(sys.stdin.read())"
    assert run_hook([sys.executable, "-c", code], {"outcome": "promoted"}, tmp_path, 60)
    assert json.loads((tmp_path / "heard.json").read_text()) == {"outcome": "promoted"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program"], "could not be run: No such file"),
        (["no\0such-program"], "could not be run: embedded null byte"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with 3"),
    ],
)
def test_one_that_fails_is_logged_and_no_more(command, said, tmp_path, caplog):
    assert not run_hook(command, {"long": "x" * 200_000}, tmp_path, 60)
    assert said in caplog.text


def test_one_that_never_ends_is_ended_with_what_it_started(tmp_path, caplog):
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "time.sleep(300)"
    )
    began = time.monotonic()
    assert not run_hook([sys.executable, "-c", code], {}, tmp_path, 3.0)
    assert time.monotonic() - began < 60
    assert "took longer than 3 seconds" in caplog.text
    until(lambda: not alive(int((tmp_path / "pid").read_text())))
