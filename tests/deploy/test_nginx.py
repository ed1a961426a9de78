"""deploy/nginx.conf, run as it is but for its ports and folders."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.api import tiny
from tests.api.load import Connection
from tests.api.problems import read_problem
from tests.api.server import PATIENCE, ROOT, Server, read_answer, running, stop

CONF = ROOT / "deploy" / "nginx.conf"


@dataclass(frozen=True)
class Front:
    """A running nginx; as an address it can be asked like a server."""

    host: str
    port: int
    folder: Path

    send = Server.send


def nginx() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), "nginx is not installed"
        pytest.skip("nginx is not installed")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def changed(folder: Path, port: int, upstream: list[int], **settings: str) -> Path:
    """The configuration with other ports, folders and settings."""
    text = CONF.read_text()
    first, second = (upstream * 2)[:2]
    changes = {
        "listen 80 default_server": f"listen 127.0.0.1:{port} default_server",
        "127.0.0.1:8001": f"127.0.0.1:{first}",
        "127.0.0.1:8002": f"127.0.0.1:{second}",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/log/nginx/error.log": f"{folder}/error.log",
        "/var/log/nginx/access.log": f"{folder}/access.log",
        **{old: settings[old] for old in settings},
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    path = folder / "nginx.conf"
    path.write_text(text.replace("http {\n", f"http {{\n{paths}", 1))
    return path


@contextmanager
def front(folder: Path, upstream: list[int], **settings: str) -> Iterator[Front]:
    folder.mkdir()
    port = free_port()
    command = [nginx(), "-p", str(folder), "-c", str(changed(folder, port, upstream, **settings))]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr.replace('"user" directive', "")
    process = subprocess.Popen(
        [*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL, text=True
    )
    try:
        wait_for_port(port)
        yield Front("127.0.0.1", port, folder)
    finally:
        stop(process)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


GENEROUS = {"rate=20r/s": "rate=1000r/s", "burst=40": "burst=1000"}


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Two instances of the service with one thread each."""
    nginx()
    weights = tiny.make(tmp_path_factory.mktemp("weights"))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    CHARRNN_WEIGHTS=weights.root, CHARRNN_THREADS="1", CHARRNN_LOG_FORMAT="json"
                )
            )
            for _ in range(2)
        ]


@pytest.fixture
def ports(instances):
    return [each.port for each in instances]


def test_requests_reach_both_instances_with_the_clients_id(tmp_path, instances, ports):
    with front(tmp_path / "nginx", ports, **GENEROUS) as server:
        connection = Connection(server)
        for number in range(10):
            one = connection.ask({"random_seed": number}, X_Request_ID=f"from-me-{number}")
            assert (one.status, one.headers["X-Request-ID"]) == (200, f"from-me-{number}")
        bad = connection.ask({}, X_Request_ID="not sane")
        made = bad.headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f]{32}", made)
        connection.close()
        for each in instances:
            each.log.wait_for("from-me-")
    lines = (server.folder / "access.log").read_text().splitlines()
    assert made in {json.loads(line)["request_id"] for line in lines}


def test_a_client_that_asks_too_much_gets_429_with_a_time_to_wait(tmp_path, ports):
    with front(tmp_path / "nginx", ports) as server:
        answers = [server.send(b"GET /livez HTTP/1.0\r\n\r\n") for _ in range(120)]
    refused = [each for each in answers if each.status == 429]
    assert {each.status for each in answers} == {200, 429}
    assert answers[0].status == 200
    assert 20 <= len(refused) < 90
    for each in refused:
        read_problem(429, each.headers["content-type"], each.body)
        assert each.headers["retry-after"] == "1"


def test_half_open_clients_hold_no_worker(tmp_path, ports):
    half = [
        b"POST /generate HTTP/1.1\r\nHost: x\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"",
    ]
    with front(tmp_path / "nginx", ports, **GENEROUS) as server, ExitStack() as connections:
        for number in range(20):  # ten times the threads of both instances
            connection = socket.create_connection((server.host, server.port), timeout=PATIENCE)
            connections.enter_context(connection).sendall(half[number % len(half)])
        for _ in range(5):
            assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


def test_a_body_above_the_limit_is_refused_by_nginx(tmp_path, ports):
    with front(tmp_path / "nginx", ports) as server:
        head = b"POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        answer = server.send(head + b"Content-Length: 70000\r\n\r\n" + b" " * 70_000)
    assert answer.status == 413
    read_problem(413, answer.headers["content-type"], answer.body)


def test_the_other_instance_answers_while_one_is_away(tmp_path, instances):
    (away, here) = free_port(), instances[0].port
    with front(tmp_path / "nginx", [away, here], **GENEROUS) as server:
        connection = Connection(server)
        for number in range(10):
            assert connection.ask({"random_seed": number}).status == 200
        connection.close()


def test_without_any_instance_it_says_so_in_the_same_shape(tmp_path):
    with front(tmp_path / "nginx", [free_port()]) as server:
        answer = server.send(b"GET /livez HTTP/1.0\r\n\r\n")
    assert answer.status == 503
    read_problem(503, answer.headers["content-type"], answer.body)


class Streaming(BaseHTTPRequestHandler):
    """Sends a second event only once the first was seen at the other end."""

    protocol_version = "HTTP/1.1"
    was_seen = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Accel-Buffering", "no")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
        was_seen = self.was_seen.wait(PATIENCE)
        self.wfile.write(b"9\r\ndata: %d\n\n\r\n0\r\n\r\n" % (2 if was_seen else 0))

    def log_message(self, *_: object) -> None:
        pass


def test_an_event_stream_is_not_held_back(tmp_path):
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Streaming)
    serving = threading.Thread(target=upstream.serve_forever)
    serving.start()
    try:
        with front(tmp_path / "nginx", [upstream.server_port]) as server:
            where = (server.host, server.port)
            with socket.create_connection(where, timeout=PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                first = b""
                while b"data: 1" not in first:
                    first += connection.recv(65536)
                Streaming.was_seen.set()
                assert b"data: 2" in b"".join(iter(lambda: connection.recv(65536), b""))
    finally:
        upstream.shutdown()
        upstream.server_close()
        serving.join()


def test_the_numbers_are_not_for_the_public(tmp_path, ports):
    with front(tmp_path / "nginx", ports, **{"allow 127.0.0.1;": ""}) as server:
        assert server.send(b"GET /metrics HTTP/1.0\r\n\r\n").status == 403
        with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert read_answer(connection).status == 200
