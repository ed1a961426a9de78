"""A real gunicorn on a free loopback port, and raw requests to it."""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds; a loaded machine is slow to import


@dataclass(frozen=True)
class Answer:
    """A raw HTTP answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass
class Server:
    """A running server, and what it has written."""

    process: subprocess.Popen[str]
    host: str
    port: int
    log: str

    def send(self, *pieces: bytes, half_close: bool = False) -> Answer:
        """Send bytes as they are and read the answer until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=PATIENCE) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer and close early
                for piece in pieces:
                    connection.sendall(piece)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """The answer that a connection brings until its other end closes."""
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(status.split()[1]), headers, body)


def gunicorn(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start gunicorn as `make serve` does, with these CHARRNN_* variables and no others."""
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("CHARRNN_")}
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=ROOT,
        env=inherited | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator[Server]:
    """A server that has said where it listens; stopped at the end."""
    process = gunicorn(*arguments, **{"CHARRNN_PORT": "0", "CHARRNN_WORKERS": "1"} | environ)
    try:
        log = read_until(process, "Booting worker")
        found = re.search(r"listening on http://(.+):(\d+)", log)
        assert found, log
        server = Server(process, found[1], int(found[2]), log)
        # A worker that is told to stop before it has set up its signals never hears of it.
        assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200
        yield server
    finally:
        stop(process)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process writes to stderr, up to a line with this text, and what came along with it."""
    assert process.stderr is not None
    log, deadline = "", time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while text not in log or not log.endswith("\n"):
            assert selector.select(deadline - time.monotonic()), f"no {text!r} in:\n{log}"
            # Not `readline`: the lines that it reads ahead are none that a selector knows of.
            piece = os.read(process.stderr.fileno(), 65536)
            assert piece, f"it ended:\n{log}"
            log += piece.decode()
    return log


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that we started, gently and then not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
