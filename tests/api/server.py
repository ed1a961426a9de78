"""A real gunicorn on a free loopback port, and raw requests to it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds; a loaded machine is slow to import


@dataclass(frozen=True)
class Answer:
    """A raw HTTP answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Log:
    """What a process has written to stderr so far, read by a thread as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._text, self._has_ended = "", False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                with self._more:
                    self._text += line
                    self._more.notify_all()
        with self._more:
            self._has_ended = True
            self._more.notify_all()

    def __str__(self) -> str:
        with self._more:
            return self._text

    def __contains__(self, text: str) -> bool:
        return text in str(self)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of a log in JSON."""
        return [json.loads(line) for line in str(self).splitlines()]

    def wait_for(self, text: str, times: int = 1) -> str:
        """All that was written, once it holds this text so many times."""
        deadline = time.monotonic() + PATIENCE
        with self._more:
            while self._text.count(text) < times:
                assert not self._has_ended, f"it ended:\n{self._text}"
                left = deadline - time.monotonic()
                assert left > 0, f"no {text!r} {times} times in:\n{self._text}"
                self._more.wait(left)
            return self._text

    def wait_for_end(self) -> str:
        """All that was written."""
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "something still has its stderr open"
        return str(self)


@dataclass
class Server:
    """A running server, and what it has written."""

    process: subprocess.Popen[str]
    host: str
    port: int
    log: Log

    def workers(self) -> list[int]:
        """The pids of all workers that were ever started, oldest first."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", str(self.log))]

    def kill_a_worker(self) -> int:
        """End the oldest worker that still is, as the system does when memory runs out."""
        pids = [pid for pid in self.workers() if Path(f"/proc/{pid}").exists()]
        os.kill(pids[0], signal.SIGKILL)
        return pids[0]

    def send(self, *pieces: bytes, half_close: bool = False) -> Answer:
        """Send bytes as they are and read the answer until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=PATIENCE) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer and close early
                for piece in pieces:
                    connection.sendall(piece)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)


def received_until(end: bytes, connection: socket.socket) -> bytes:
    """What a connection brings until these bytes are its last; that it closes before is a fault."""
    data = bytearray()
    while not data.endswith(end):
        piece = connection.recv(1 << 20)
        assert piece, f"closed before {end!r}, after {bytes(data[-200:])!r}"
        data += piece
    return bytes(data)


def read_answer(connection: socket.socket) -> Answer:
    """The answer that a connection brings until its other end closes."""
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(status.split()[1]), headers, body)


def gunicorn(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start gunicorn as `make serve` does, with these CHARRNN_* variables and no others; its log is
    what a terminal would show.
    """
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("CHARRNN_")}
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=ROOT,
        env=inherited | {"CHARRNN_LOG_FORMAT": "text"} | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator[Server]:
    """A server that has said where it listens; stopped at the end."""
    process = gunicorn(*arguments, **{"CHARRNN_PORT": "0", "CHARRNN_WORKERS": "1"} | environ)
    log = Log(process)
    try:
        written = log.wait_for("Booting worker")
        found = re.search(r"listening on http://([^\s\"]+):(\d+)", written)
        assert found, written
        server = Server(process, found[1], int(found[2]), log)
        # A worker that is told to stop before it has set up its signals never hears of it.
        assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200
        yield server
    finally:
        stop(process)
        log.wait_for_end()


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that we started, gently and then not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
