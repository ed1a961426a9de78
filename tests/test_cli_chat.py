"""The chat in the terminal: a real one, by a pty; and piped."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from charrnn.parameters import Parameters
from charrnn.vocabulary import Vocabulary
from charrnn.weights import to_bytes
from tests.models import frozen
from tests.test_chat import SYMBOLS

PATIENCE = 60.0
PROMPT = b"you> "
ENDLESS = 100_000  # characters of a reply: minutes


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two models of random weights: one that ends its replies, one that never does."""
    folder = tmp_path_factory.mktemp("weights")
    vocabulary = Vocabulary.of([SYMBOLS], ends=False)
    model = frozen("chat", vocabulary, hidden=16, cell="gru", seed=3)
    (folder / "talker.safetensors").write_bytes(to_bytes(model))
    params = Parameters.from_arrays({name: a.copy() for name, a in model.params.items()})
    params["out.c"][vocabulary.symbols.index("\n")] = -1000
    (folder / "rambler.safetensors").write_bytes(to_bytes(replace(model, params=params)))
    return folder


def command(model, *options):
    return [sys.executable, "-m", "charrnn", "chat", str(model), *options]


def piped(model, data, *options):
    return subprocess.run(
        command(model, *options), input=data, capture_output=True, timeout=PATIENCE, check=False
    )


class Terminal:
    """A chat on a pseudo-terminal."""

    def __init__(self, *words):
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "dumb"
            os.execv(words[0], list(words))
        self.read = b""

    def reads(self, seconds):
        """Read what comes next; whether anything came in so many seconds."""
        if not select.select([self.file], [], [], max(0.0, seconds))[0]:
            return False
        try:
            self.read += os.read(self.file, 65536)
        except OSError as error:
            raise AssertionError(self.read) from error
        return True

    def until(self, text, after=0):
        """All that was written, once this text is in what came after so many bytes."""
        end = time.monotonic() + PATIENCE
        while text not in self.read[after:]:
            assert self.reads(end - time.monotonic()), self.read
        return self.read

    def say(self, line, then=PROMPT):
        """Type a line; what was written from then on, until the next prompt."""
        self.until(b"you> ")
        before = len(self.read)
        os.write(self.file, line.encode() + b"\n")
        return self.until(then, before)[before:].decode()

    def press(self, key):
        os.write(self.file, key)

    def interrupt(self, then, after):
        """Press Ctrl-C until an answer comes: one that falls between a prompt and the wait for what
        is typed at it is not heard before a key is pressed (Python's readline).
        """
        for _ in range(int(PATIENCE)):
            self.press(b"\x03")
            while self.reads(1.0):
                if then in self.read[after:]:
                    return
        raise AssertionError(self.read)

    def end(self):
        """Its exit status."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.file)
                return os.waitstatus_to_exitcode(status)
            try:
                self.reads(0.1)
            except AssertionError:  # its end is closed
                time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(self.read)


def test_a_talk_on_a_terminal(weights, tmp_path):
    kept = tmp_path / "talk.json"
    chat = Terminal(*command(weights / "talker.safetensors", "--random-seed", "5"))
    assert "talker> " in (first := chat.say("Hello!"))
    assert "temperature 0.3" in chat.say("/temperature")
    assert "temperature 1.5" in chat.say("/temperature 1.5")
    assert "temperature must be from 0 to 10, got 99" in chat.say("/temperature 99")
    assert "temperature must be a number, got 'hot'" in chat.say("/temperature hot")
    assert "/reset" in chat.say("/help")
    assert "/dance is not something" in chat.say("/dance")
    assert f"kept in {kept}" in chat.say(f"/save {kept}").replace("\r\n", "")
    assert "forgotten" in chat.say("/reset")
    chat.say("/temperature 0.3")
    assert "random seed 5" in chat.say("/seed 5")
    again = chat.say("Hello!")
    assert first.partition("talker> ")[2] == again.partition("talker> ")[2]
    assert "goes on, after 1 turns" in chat.say(f"/load {kept}").replace("\r\n", "")
    chat.press(b"\x1b[A")  # the line before, which readline knows
    assert str(kept) in chat.say("").replace("\r\n", "") or "dumb" in os.environ.get("TERM", "")
    chat.press(b"\x04")
    assert chat.end() == 0
    assert json.loads(kept.read_text())["turns"] == 1


def test_ctrl_c_stops_a_reply_and_not_the_program(weights):
    chat = Terminal(
        *command(
            weights / "rambler.safetensors", "--max-length", str(ENDLESS), "--temperature", "1"
        )
    )
    chat.until(PROMPT)
    before = len(chat.read)
    os.write(chat.file, b"hello\n")
    chat.until(b"rambler> ", before)
    while len(chat.read) < before + 200:  # it streams
        assert chat.reads(PATIENCE), chat.read
    chat.press(b"\x03")
    chat.until(b" ...", before)
    after = len(chat.read)
    chat.until(PROMPT, before + 20)
    chat.interrupt(b"/quit or Ctrl-D leaves", after - 4)  # at the prompt it says how to leave
    os.write(chat.file, b"/quit\n")
    assert chat.end() == 0


def test_lines_that_are_piped_in_are_answered_one_by_one(weights):
    talker = weights / "talker.safetensors"
    done = piped(talker, b"hello\n\n/temperature\n  \nwhat?\n", "--random-seed", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().split("\n")
    assert len(lines) == 3
    assert b"temperature 0.3" in done.stderr
    assert b"you>" not in done.stdout + done.stderr
    assert (
        piped(talker, b"hello\n\nwhat?\n/quit\nmore\n", "--random-seed", "5").stdout == done.stdout
    )


GARBAGE = (
    b"\xff\xfe\x00\x01\n",
    b"\x00" * 50 + b"\n",
    "恐竜 😀 e\u0301 \u202e".encode() + b"\n",
    b"a" * 100_000 + b"\n",
    b"/seed -1\n/seed 99999999999999999999\n/seed x\n/temperature nan\n/temperature 1e999\n",
    b"/load\n/load /nowhere/at/all\n/load .\n/save\n/save /nowhere/at/all\n",
    b"no newline",
    b"",
)


def test_garbage_typed_at_the_chat_is_answered_or_refused_in_a_line(weights):
    done = piped(weights / "talker.safetensors", b"".join(GARBAGE))
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.count(b"\n") == 5  # those that are text, of which one is nothing but zeros
    for line in done.stderr.decode().splitlines():
        assert re.match(
            r"random_seed |temperature |name a file|\[Errno|that was not|.* no talk", line
        ), line


def test_a_model_that_does_not_chat_says_so(tmp_path):
    from tests.models import names_model

    (tmp_path / "names.safetensors").write_bytes(to_bytes(names_model()))
    done = piped(tmp_path / "names.safetensors", b"hello\n")
    assert done.returncode == 1 or done.returncode == 2
    assert b"error: model must be one that learned from conversations, as rex is" in done.stderr
