"""The service as it is run: gunicorn with the repository's gunicorn.conf.py."""

import errno
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import api
import charrnn
from charrnn.files import write_atomically
from tests.api.problems import read_problem
from tests.api.server import PATIENCE, Answer, Server, gunicorn, running
from tests.api.tiny import Tiny


@pytest.fixture(scope="module")
def server(weights: Tiny) -> Iterator[Server]:
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_MAX_BODY="2000") as server:
        yield server


def request(
    method: str = "POST", path: str = "/generate", body: bytes = b"", headers: str = ""
) -> bytes:
    length = "" if "Transfer-Encoding" in headers else f"Content-Length: {len(body)}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{headers}\r\n"
    return head.encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return request(body=body, headers="Transfer-Encoding: chunked\r\n")


def problem_of(answer: Answer) -> str:
    problem = read_problem(answer.status, answer.headers.get("content-type"), answer.body)
    return str(problem["detail"])


def test_the_start_tells_where_it_listens_what_to_try_and_which_products_it_uses(server):
    assert f"charrnn is listening on http://127.0.0.1:{server.port}\n" in server.log
    example = f"""curl -d '{{"seed": "Tyr", "count": 5}}' http://127.0.0.1:{server.port}/generate"""
    assert f"try: {example}\n" in server.log
    assert f"matrix products: {charrnn.blas_kernel()}\n" in server.log


def test_what_curl_sends_is_answered(server):
    form = "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n"
    answer = server.send(request(body=b'{"seed":"Tyr","count":5}', headers=form))
    final = answer.body.partition(b"\r\n\r\n")[2] if answer.status == 100 else answer.body
    assert len(json.loads(final)["samples"]) == 5


def test_a_chunked_body_is_read_whole(server):
    answer = server.send(chunked(b'{"cou', b'nt": 3, "seed": "', b'tyr"}'))
    assert (answer.status, json.loads(answer.body)["requested"]) == (200, 3)


def test_no_body_at_all_asks_for_the_defaults(server):
    answer = server.send(b"POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (answer.status, json.loads(answer.body)["requested"]) == (200, 1)


def test_an_absolute_address_without_a_path_is_that_of_the_root(server):
    head = b"GET http://elsewhere HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
    answer = server.send(head)
    assert (answer.status, "location" in answer.headers) == (200, False)


@pytest.mark.parametrize("size", [3000, 5_000_000])
def test_a_chunked_body_above_the_limit_is_413(server, size):
    answer = server.send(chunked(b'{"count": 2', *[b" " * 1000] * (size // 1000), b"}"))
    assert (answer.status, problem_of(answer)) == (413, "the body must have at most 2000 bytes")


@pytest.mark.parametrize("size", [2001, 5_000_000])
def test_a_declared_body_above_the_limit_is_413(server, size):
    answer = server.send(request(body=b" " * size))
    assert (answer.status, problem_of(answer)) == (413, "the body must have at most 2000 bytes")


def test_a_body_that_is_announced_as_too_large_is_refused_without_waiting_for_it(server):
    head = (
        b"POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n"
    )
    answer = server.send(head)
    assert answer.status == 413


def test_half_a_body_is_400_even_where_the_half_is_json(server):
    whole = request(body=b'{"count": 1}    ')
    answer = server.send(whole[:-4], half_close=True)
    assert (answer.status, problem_of(answer)) == (400, "the body stops after 12 of 16 bytes")


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}{}\r\n0\r\n\r\n", b"2\r\n{}\r\n"]
)
def test_broken_chunks_are_400(server, chunks):
    raw = request(body=chunks, headers="Transfer-Encoding: chunked\r\n")
    answer = server.send(raw, half_close=True)
    assert (answer.status, problem_of(answer)) == (400, "the body can't be read to its end")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/models//elves", 404),
        ("GET", "/models/%ff%00", 404),
        ("GET", "/models/../../etc/passwd", 404),
        ("GET", "/generate", 405),
        ("PATCH", "/models", 405),
        ("POST", "/models", 405),
    ],
)
def test_what_is_not_there_is_a_problem(server, method, path, status):
    answer = server.send(request(method, path))
    assert answer.status == status
    assert problem_of(answer)


@pytest.mark.parametrize("path", ["/", "/models", "/nothing"])
def test_head_has_no_body(server, path):
    answer = server.send(request("HEAD", path))
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /generate HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_refused_and_the_service_goes_on(server, raw):
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    assert not data or 400 <= int(data.split()[1]) < 500
    assert server.send(request("GET", "/healthz")).status == 200


def test_clients_at_once_each_get_their_own(server):
    answers: dict[int, Answer] = {}

    def ask(n: int) -> None:
        body = json.dumps({"random_seed": n, "count": 2}).encode()
        answers[n] = server.send(request(body=body))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: json.loads(answer.body)["random_seed"] for n, answer in answers.items()} == {
        n: n for n in range(24)
    }


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST /generate HTTP/1.1\r\nHost: x\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_requests_that_stop_half_way_do_not_hold_the_service(beginning, weights):
    settings = {"CHARRNN_THREADS": "2", "CHARRNN_READ_TIMEOUT": "1"}
    with running(CHARRNN_WEIGHTS=weights.root, **settings) as server, ExitStack() as connections:
        server.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        for _ in range(2):  # as many as there are threads
            connection = socket.create_connection((server.host, server.port), timeout=PATIENCE)
            connections.enter_context(connection).sendall(beginning)
        assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


def test_a_worker_that_is_killed_is_replaced(weights):
    with running(CHARRNN_WEIGHTS=weights.root) as server:
        server.kill_a_worker()
        server.log.wait_for("Booting worker", times=2)
        assert server.send(request()).status == 200


def test_sigterm_ends_it_with_code_0(weights):
    with running(CHARRNN_WEIGHTS=weights.root) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=PATIENCE) == 0


KEY = "k3y" * 8


def test_keys_are_asked_for_and_never_written(weights, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}-of-a-file\n")
    settings = {"CHARRNN_API_KEYS": KEY, "CHARRNN_API_KEYS_FILE": str(file)}
    access = tmp_path / "access.log"
    options = ["--access-logfile", str(access), "--log-level", "debug"]
    with running(*options, CHARRNN_WEIGHTS=weights.root, **settings) as server:
        asked = {
            "": 401,
            f"X-API-Key: {KEY}\r\n": 200,
            f"x-api-key: {KEY}-of-a-file\r\n": 200,
            f"Authorization: Bearer {KEY}\r\n": 200,
            f"X-API-Key: {KEY}\r\nX-API-Key: {KEY}\r\n": 401,
            f"X_API_Key: {KEY}\r\n": 401,
            f"Authorization: Bearer {KEY}\r\nAuthorization: Bearer x\r\n": 401,
            "Authorization: Bearer \xff\xfe\r\n": 401,
            f"X-API-Key {KEY}\r\n": 400,  # which gunicorn would quote in its log
            f"Transfer-Encoding: {KEY}\r\n": 501,
        }
        for headers, status in asked.items():
            assert server.send(request(headers=headers)).status == status, headers
        assert server.send(request("GET", "/healthz")).status == 200
        assert server.send(request("GET", "/docs")).status == 200
        server.process.send_signal(signal.SIGTERM)
        log = server.log.wait_for_end()
    assert "a request needs one of 2 API keys" in log
    assert "GET /docs" in access.read_text()
    assert KEY not in log + access.read_text()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
    ],
)
def test_what_is_too_long_is_refused_by_gunicorn_itself_as_the_document_says(server, raw, status):
    assert server.send(raw).status == status


def refusal(**environ: str) -> tuple[int, list[str]]:
    """The exit code and the lines, without gunicorn's own log, of a server that must not start."""
    process = gunicorn(**environ)
    _, written = process.communicate(timeout=PATIENCE)
    lines = [line for line in written.splitlines() if "[INFO]" not in line]
    return process.returncode, lines


def test_a_fresh_folder_of_weights_is_filled_with_what_ships(tmp_path):
    for folder in (tmp_path, tmp_path / "new"):
        with running(CHARRNN_WEIGHTS=str(folder)) as server:
            answer = server.send(request(body=b'{"random_seed": 1}'))
            assert json.loads(answer.body)["model"] == "dinosaurs"
            assert f"model dinosaurs was copied to {folder}, which was empty" in server.log
        assert (folder / "dinosaurs" / "CURRENT.json").is_file()


def test_a_copy_of_what_ships_that_is_cut_off_is_finished_by_the_next_start(
    tmp_path, own_weights, monkeypatch
):
    root, room = tmp_path / "fresh", [0]
    (root / "lost+found").mkdir(parents=True)
    store = charrnn.Store(root, own_weights.store.root)

    def write(path, data):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr("charrnn.store.write_atomically", write)
    for room[0] in (1, 3, 5, 100):
        api._fill_if_fresh(store)
    assert store.models() == own_weights.store.models()
    for name in store.models():
        store.load(name)
    store.folder("elves").rename(tmp_path / "removed")
    api._fill_if_fresh(store)
    assert "elves" not in store.models(), "the operator's wish"


def test_without_weights_it_refuses_to_start_in_one_line(tmp_path):
    (tmp_path / "notes.txt").touch()
    code, lines = refusal(CHARRNN_WEIGHTS=str(tmp_path))
    assert code != 0
    (line,) = lines
    assert line.startswith(f"charrnn can't start: there is no trained model in {tmp_path}; train")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CHARRNN_PORT", "port", "CHARRNN_PORT must be a whole number, got 'port'"),
        ("CHARRNN_PROT", "80", "CHARRNN_PROT is not a setting (did you mean CHARRNN_PORT?); the"),
        ("CHARRNN_MODEL", "unicorns", "CHARRNN_MODEL is 'unicorns', and "),
        ("CHARRNN_API_KEYS", "short", "CHARRNN_API_KEYS must have keys of 16 to 256 characters; k"),
        ("CHARRNN_API_KEYS_FILE", "/nowhere/keys", "CHARRNN_API_KEYS_FILE (/nowhere/keys) can't"),
        ("CHARRNN_BLOCKLIST", "/nowhere/words", "CHARRNN_BLOCKLIST can't be used: blocklist must"),
        ("CHARRNN_BLOCKLIST", "/dev/zero", "CHARRNN_BLOCKLIST can't be used: blocklist must be a"),
        ("CHARRNN_WEIGHTS", "/dev/null", "/dev/null is not a folder; train one with"),
    ],
)
def test_a_wrong_setting_refuses_to_start_in_one_line(weights, name, text, message):
    code, lines = refusal(**{"CHARRNN_WEIGHTS": weights.root, name: text})
    assert code != 0
    (line,) = lines
    assert line.startswith(f"charrnn can't start: {message}")


def test_a_host_that_is_none_refuses_to_start_in_one_line(weights):
    code, (line,) = refusal(CHARRNN_WEIGHTS=weights.root, CHARRNN_HOST="[::x]")
    assert code != 0
    assert line.startswith("charrnn can't listen on ::x: ")
    assert line.endswith("set CHARRNN_HOST to an address of this machine")


def test_a_port_in_use_refuses_to_start_in_one_line(weights):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = refusal(CHARRNN_WEIGHTS=weights.root, CHARRNN_PORT=str(port))
    assert code != 0
    (line,) = lines
    assert line.startswith(f"charrnn can't listen on 127.0.0.1 port {port}: Address already in use")
    assert "CHARRNN_PORT=8001" in line


def test_an_address_of_another_machine_refuses_to_start_in_one_line(weights):
    code, lines = refusal(CHARRNN_WEIGHTS=weights.root, CHARRNN_HOST="203.0.113.7")
    assert (code != 0, len(lines)) == (True, 1)
