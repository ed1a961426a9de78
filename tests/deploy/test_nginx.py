"""deploy/nginx.conf, run as it is but for its ports and folders."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openai import OpenAI, RateLimitError

from tests.api import tiny
from tests.api.load import Connection, load
from tests.api.problems import read_problem
from tests.api.server import (
    PATIENCE,
    ROOT,
    Server,
    read_answer,
    received_until,
    running,
    stop,
)
from tests.deploy.programs import needed
from tests.processes import until

CONF = ROOT / "deploy" / "nginx.conf"


@dataclass(frozen=True)
class Front:
    """A running nginx; as an address it can be asked like a server."""

    host: str
    port: int
    folder: Path

    send = Server.send


def nginx() -> str:
    return needed("nginx", "`apt install nginx-light`")


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


@contextmanager
def two_instances(folder: Path, **settings: str) -> Iterator[list[Server]]:
    """Two instances of the service behind a proxy."""
    nginx()
    weights = tiny.make(folder)
    settings |= {"CHARRNN_WEIGHTS": weights.root, "CHARRNN_LOG_FORMAT": "json"}
    with ExitStack() as stack:
        yield [stack.enter_context(running(CHARRNN_PROXIES="1", **settings)) for _ in range(2)]


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Two with one thread each."""
    with two_instances(tmp_path_factory.mktemp("weights"), CHARRNN_THREADS="1") as both:
        yield both


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


def test_who_asks_too_much_of_openais_routes_is_told_so_in_their_shape(tmp_path, ports):
    """The official client has an error of its own for it, and by default tries again."""
    with front(tmp_path / "nginx", ports) as server:
        address = {"base_url": f"http://{server.host}:{server.port}/v1", "api_key": "none"}
        with OpenAI(**address, max_retries=0) as hasty, pytest.raises(RateLimitError) as refused:
            all(hasty.models.list() for _ in range(200))
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.response.headers["retry-after"] == "1"
        with OpenAI(**address) as patient:
            assert list(patient.models.list())
        large = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"
        answer = server.send(large + b" " * 70_000)
        assert answer.status == 413
        assert json.loads(answer.body)["error"]["code"] == "request_too_large"


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


def test_the_address_of_the_client_is_in_the_logs_of_both(tmp_path, instances, ports):
    forged = b"X-Forwarded-For: 203.0.113.9\r\n"
    with front(tmp_path / "nginx", ports, **GENEROUS) as server:
        for number in range(1, 5):  # each from an address of its own, on loopback
            here = (f"127.0.1.{number}", 0)
            where = (server.host, server.port)
            with socket.create_connection(where, PATIENCE, source_address=here) as client:
                head = b"GET /readyz HTTP/1.0\r\nX-Request-ID: of-%d\r\n" % number
                client.sendall(head + forged + b"\r\n")
                assert read_answer(client).status == 200
        written = server.folder / "access.log"  # both write a line when the answer has gone
        until(lambda: written.read_text().count("\n") == 4, PATIENCE)
        until(lambda: sum(str(each.log).count('"of-') for each in instances) >= 4, PATIENCE)
        outside = {
            line["request_id"]: line["remote"]
            for line in map(json.loads, (server.folder / "access.log").read_text().splitlines())
        }
    inside = {
        line["request_id"]: line["remote"]
        for each in instances
        for line in each.log.lines()
        if line.get("request_id", "").startswith("of-")
    }
    expected = {f"of-{number}": f"127.0.1.{number}" for number in range(1, 5)}
    assert inside == outside == expected


def test_a_service_without_a_proxy_believes_no_such_header(tmp_path):
    weights = tiny.make(tmp_path)
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_LOG_FORMAT="json") as server:
        server.send(b"GET /readyz HTTP/1.0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        server.log.wait_for('"/readyz"')
        lines = [line for line in server.log.lines() if line.get("route") == "/readyz"]
    assert [line["remote"] for line in lines] == ["127.0.0.1"]


def test_an_instance_that_is_killed_under_load_costs_no_request(tmp_path):
    with (
        two_instances(tmp_path / "weights") as (killed, other),
        front(tmp_path / "nginx", [killed.port, other.port], **GENEROUS) as server,
        load(server, [{"random_seed": 1}], clients=4) as seen,
    ):
        seen.wait_for_more(100)
        for pid in (killed.process.pid, *killed.workers()):  # master first: it can't replace them
            os.kill(pid, signal.SIGKILL)
        seen.wait_for_more(200)
    assert seen.failures() == []
    assert seen.broken == []
    lines = (server.folder / "access.log").read_text().splitlines()
    upstreams = [json.loads(line)["upstream"] for line in lines]
    assert f"127.0.0.1:{killed.port}" in upstreams  # it had answered
    assert upstreams[-1] == f"127.0.0.1:{other.port}"


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
                received_until(b"data: 1\n\n\r\n", connection)
                Streaming.was_seen.set()
                assert b"data: 2" in b"".join(iter(lambda: connection.recv(65536), b""))
    finally:
        upstream.shutdown()
        upstream.server_close()
        serving.join()


def pieces_until_nothing_comes(connection: socket.socket) -> bytes:
    """What arrives until half a second brings nothing more."""
    data = b""
    connection.settimeout(0.5)
    with suppress(TimeoutError):
        while piece := connection.recv(1 << 20):
            data += piece
    connection.settimeout(PATIENCE)
    return data


def test_a_stream_of_the_service_comes_while_its_text_is_written(tmp_path):
    """Whoever writes it is held as soon as the first piece is here: then the last isn't made yet.
    That each single event comes at once is shown above.
    """
    nginx()
    weights, length = tiny.make(tmp_path / "weights"), 20_000
    body = json.dumps({"model": "prose", "stream": True, "max_length": length}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with (
        running(CHARRNN_MAX_LENGTH=str(length), CHARRNN_WEIGHTS=weights.root) as instance,
        front(tmp_path / "nginx", [instance.port]) as server,
        socket.create_connection((server.host, server.port), timeout=PATIENCE) as client,
    ):
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        first = client.recv(1000)
        (writing,) = instance.workers()
        os.kill(writing, signal.SIGSTOP)
        try:
            first += pieces_until_nothing_comes(client)
        finally:
            os.kill(writing, signal.SIGCONT)
        rest = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert b"data: " in first
    assert b"event: done" not in first
    assert b"event: done" in rest


def test_the_numbers_are_not_for_the_public(tmp_path, ports):
    with front(tmp_path / "nginx", ports, **{"allow 127.0.0.1;": ""}) as server:
        assert server.send(b"GET /metrics HTTP/1.0\r\n\r\n").status == 403
        with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert read_answer(connection).status == 200
