"""Clients that send half a request, nonsense, or nothing, to a real worker with few threads."""

import json
import os
import random
import resource
import select
import signal
import socket
import time
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import ThreadWorker

import api.worker
from api.board import FRESH_SECONDS, WORKERS, Board, Load
from api.sending import Response
from api.worker import COURTESY_SECONDS, FEWER_SECONDS, SPARE_SECONDS, Arrived, Worker
from tests.api.load import Connection, connection_to_each_worker
from tests.api.server import PATIENCE, Server, read_answer, running

HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
HALF = [
    b"",
    b"P",
    b"\r\n\r\n",
    HEAD,
    HEAD + b"Content-Length: 100\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    HEAD + b"Content-Length: 100\r\nExpect: 100-Continue\r\n\r\n{",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li",  # the second of two
    HEAD + b"Content-Length: 0000000000017\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n000000011\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n11 ;a=b\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n11;" + b"a" * 2000 + b"\r\n{",
]
ENDLESS = [
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
]
MALFORMED = [
    *ENDLESS,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n{}",
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    HEAD + b"Content-Length: 999999999999\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b" " * 5000,
    HEAD + b" folded: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
]
SETTINGS = {"CHARRNN_THREADS": "2", "CHARRNN_READ_TIMEOUT": "2", "CHARRNN_MAX_BODY": "1000"}


def connect(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=PATIENCE)


def health(server: Server) -> float:
    """How long the service takes to say that it is well."""
    since = time.monotonic()
    assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200
    return time.monotonic() - since


@pytest.fixture(scope="module")
def server(weights):
    with running(CHARRNN_WEIGHTS=weights.root, **SETTINGS) as server:
        yield server


def besiege(server: Server, sockets: int) -> float:
    """The longest that a good client waits while so many bad ones hold on."""
    rng, longest = random.Random(0), 0.0
    with ExitStack() as connections:
        for number in range(sockets):
            connection = connections.enter_context(connect(server))
            data = rng.choice(HALF + MALFORMED)
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data[: rng.randint(0, len(data))] if number % 2 else data)
            if number % 10 == 9:
                longest = max(longest, health(server))
        longest = max(longest, health(server))
    return max(longest, health(server))


def test_bad_clients_do_not_keep_good_ones_waiting(server):
    assert besiege(server, 30) < PATIENCE


@pytest.mark.prove
def test_two_hundred_bad_clients_do_not_keep_good_ones_waiting(server):
    assert besiege(server, 200) < 5


@pytest.mark.parametrize("data", HALF + ENDLESS, ids=range(len(HALF + ENDLESS)))
def test_half_a_request_holds_no_thread(server, data):
    since = time.monotonic()
    with ExitStack() as connections:
        for _ in range(9):  # three times the threads, of which one is for texts
            with suppress(BrokenPipeError, ConnectionResetError):
                connections.enter_context(connect(server)).sendall(data)
        health(server)
        assert time.monotonic() - since < float(SETTINGS["CHARRNN_READ_TIMEOUT"])


def test_half_a_request_is_closed_when_its_time_is_over(server):
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in HALF]
        for connection, data in zip(connections, HALF, strict=True):
            connection.sendall(data)
        for connection in connections:
            while connection.recv(65536):  # at the end nothing, and no timeout of ours
                pass


@pytest.mark.parametrize(
    "data", [HALF[4], HALF[5], HALF[6], HALF[7]], ids=["length", "chunk", "last chunk", "expect"]
)
def test_half_a_body_is_answered_when_its_time_is_over(server, data):
    with connect(server) as connection:
        connection.sendall(data)
        answer = read_answer(connection)
    last = answer.body.rpartition(b"\r\n\r\n")[2]
    assert json.loads(last)["status"] == 400


def test_a_client_that_sends_a_byte_at_a_time_does_not_prolong_its_time(server):
    with connect(server) as connection:
        connection.settimeout(0.1)
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        since, answer = time.monotonic(), b""
        while not answer:
            assert time.monotonic() - since < PATIENCE
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b" ")
            with suppress(TimeoutError):
                answer = connection.recv(65536)
    assert b" 400 " in answer


def test_a_client_that_never_closes_does_not_hold_up_others(server):
    close = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with ExitStack() as connections:
        for _ in range(10):
            connections.enter_context(connect(server)).sendall(close)
        since = time.monotonic()
        health(server)
        assert time.monotonic() - since < 2


def test_clients_that_take_no_answer_do_not_hold_the_threads_for_ever(weights):
    settings = SETTINGS | {"CHARRNN_READ_TIMEOUT": "1", "CHARRNN_TIME_LIMIT": "1"}
    with running(CHARRNN_WEIGHTS=weights.root, **settings) as server, ExitStack() as connections:
        for _ in range(2):  # as many as there are threads
            client = connections.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.connect((server.host, server.port))
            client.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 300)  # more than buffers take
        assert health(server) < PATIENCE
        assert "Socket error" not in server.log


def test_requests_that_a_client_sent_before_it_left_keep_nobody_out(weights):
    limits = {"CHARRNN_MAX_LENGTH": "99999", "CHARRNN_MAX_CHARACTERS": "9999900"}
    one = {"CHARRNN_WORKERS": "1", "CHARRNN_MAX_REQUESTS": "1"}
    long = json.dumps({"model": "prose", "count": 100, "max_length": 99_999}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    with (
        running(CHARRNN_WEIGHTS=weights.root, **limits, **one) as server,
        socket.create_connection((server.host, server.port)) as gone,
    ):
        gone.sendall((head % len(long) + b"\r\n" + long) * 10)
        gone.shutdown(socket.SHUT_WR)
        since, answers = time.monotonic(), b""
        while piece := gone.recv(4096):
            answers += piece
        assert answers.count(b"HTTP/1.1 408") == 10
        assert time.monotonic() - since < 3  # half a second for each would be too long


def test_an_answer_arrives_whole_where_the_request_was_not_read(server):
    head = HEAD + b"Content-Length: 500000\r\nConnection: close\r\n\r\n"
    answer = server.send(head, *[b" " * 50_000] * 10)
    assert answer.status == 413
    assert len(answer.body) == int(answer.headers["content-length"])


def test_requests_in_one_piece_are_answered_one_after_the_other(server):
    body = b'{"random_seed": 1}'
    one = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(one + one + last)
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_waits_for_a_word_gets_one(server):
    with connect(server) as connection:
        connection.sendall(
            HEAD + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert read_answer(connection).status == 200


def test_a_client_that_knows_of_no_such_word_gets_none(server):
    """RFC 9110, 10.1.1: it would take the word for its answer."""
    with connect(server) as connection:
        head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
        assert read_answer(connection).status == 200


def test_a_client_that_waits_for_a_word_gets_one_on_a_kept_connection(server):
    with connect(server) as client:
        for _ in range(3):
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"{}")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_worker_with_too_many_open_files_goes_on(weights):
    with running(CHARRNN_WEIGHTS=weights.root) as server, ExitStack() as stack:
        assert server.send(b"GET /livez HTTP/1.0\r\n\r\n").status == 200
        (worker,) = server.workers()
        most, hardest = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        few = len(list(Path(f"/proc/{worker}/fd").iterdir())) + 3
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (few, hardest))
        for _ in range(8):
            stack.enter_context(connect(server))
        server.log.wait_for("a connection had to wait")
        stack.close()
        health(server)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (most, hardest))
        assert server.workers() == [worker]


def test_an_answer_comes_in_one_piece(server):
    """As far as loopback goes, on which what is sent at once arrives at once."""
    with connect(server) as client:
        for _ in range(5):
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1 << 16).endswith(b'{"status":"ok"}\n')


def test_clients_that_ask_at_once_again_do_not_keep_others_from_a_thread(server):
    """Two threads; three clients whose next request comes before a thread could turn away."""
    answered = [0, 0, 0]
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in answered]
        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        while min(answered) < 50 and max(answered) < 5000:
            for client in select.select(clients, [], [], PATIENCE)[0]:
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
                answered[clients.index(client)] += 1
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert min(answered) >= 50, answered


@pytest.mark.parametrize("others", [False, True])
def test_a_thread_keeps_its_client_only_where_nobody_else_is_at_work(others):
    """Threads that each kept one would compute by turns, and write nothing together."""
    ours, clients = socket.socketpair()
    worker = Worker.__new__(Worker)
    worker.alive = True
    worker.tpool = SimpleNamespace(waiting=0, aside=nullcontext, is_full=others)
    unreader = Arrived()
    connection = SimpleNamespace(sock=ours, parser=SimpleNamespace(unreader=unreader))
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with ours, clients:
        assert not worker._has_next(connection), "nothing has come"
        clients.sendall(request)
        assert worker._has_next(connection) == (not others)
        if others:
            assert ours.recv(1 << 10) == request, "it is left to the main loop"
        else:
            assert unreader.read(len(request)) == request


def test_a_kept_connection_serves_many_requests(server):
    connection = Connection(server)
    for number in range(20):
        assert connection.ask({"random_seed": number}).status == 200
    connection.close()


@pytest.mark.parametrize(
    ("asking", "elsewhere", "slept"),
    [(0, [0], []), (5, [3, 9], []), (5, [9, 2], [COURTESY_SECONDS]), (3, [], [])],
)
def test_a_worker_that_is_busier_than_another_lets_it_accept_first(
    asking, elsewhere, slept, monkeypatch
):
    """Connections of a burst stay where they were accepted: so they are shared out evenly."""
    waits, board = [], Board()
    monkeypatch.setattr("api.worker.BOARD", board)
    monkeypatch.setattr("api.worker.time.sleep", waits.append)
    for number, requests in enumerate([asking, *elsewhere]):
        board.note(number, Load(requests, 0))
    worker = Worker.__new__(Worker)
    worker._asking = asking
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        worker.accept(listener)  # another one was faster
    assert waits == slept


def test_workers_of_one_master_see_what_each_other_says_as_long_as_it_is_fresh(monkeypatch):
    board = Board()
    assert board.fewest_requests() is None
    assert board.fewest_connections() is None
    pid = os.fork()
    if pid == 0:
        board.note(WORKERS + 7, Load(2, 9))
        os._exit(0)
    os.waitpid(pid, 0)
    board.note(1, Load(5, 6))
    assert (board.fewest_requests(), board.fewest_connections()) == (2, (5, 6))
    now = time.monotonic()
    monkeypatch.setattr("api.board.time.monotonic", lambda: now + FRESH_SECONDS)
    board.note(1, Load(5, 6))  # the other one stands still
    assert (board.fewest_requests(), board.fewest_connections()) == (5, (5, 6))
    board.note(2, Load(0, 0))
    board.forget(2)
    assert board.fewest_requests() == 5


def test_a_connection_counts_from_its_request_to_the_answer(monkeypatch):
    """Twice on one connection, and where a client closes without a word."""
    worker = Worker.__new__(Worker)
    worker._asking, worker.nr_conns, worker.age, worker.alive = 0, 1, 1, True
    worker.cfg = SimpleNamespace(is_ssl=True)
    monkeypatch.setattr(ThreadWorker, "enqueue_req", lambda *_: None)
    monkeypatch.setattr(ThreadWorker, "finish_request", lambda *_: None)
    connection = api.worker.Connection.__new__(api.worker.Connection)
    connection.sock = socket.socket()
    connection.close = connection.sock.close
    for _ in range(2):
        worker.enqueue_req(connection)
        assert worker._asking == 1
        worker.finish_request(connection, None)
        assert worker._asking == 0
    worker.enqueue_req(connection)
    worker._drop(connection)
    worker._drop(connection)
    assert worker._asking == 0


def test_a_worker_spares_connections_one_by_one_while_another_has_clearly_fewer(monkeypatch):
    board, now = Board(), time.monotonic()
    monkeypatch.setattr("api.worker.BOARD", board)
    monkeypatch.setattr("api.worker.time.monotonic", lambda: now)
    worker = Worker.__new__(Worker)
    worker._next_spare, worker._more_since, worker._asking = 0.0, None, 3
    worker.cfg = SimpleNamespace(is_ssl=False)

    def spares(connections, elsewhere, seconds, requests=3):
        nonlocal now
        now += seconds
        board.note(0, Load(worker._asking, connections))
        for number, each in enumerate(elsewhere, 1):
            board.note(number, Load(requests, each))
        worker.nr_conns = connections
        return worker._spares()

    assert not spares(9, [9, 6], FEWER_SECONDS), "now it begins"
    assert not spares(9, [9, 7], FEWER_SECONDS), "not for long enough, and over"
    assert not spares(9, [9, 2], FEWER_SECONDS), "it begins again"
    assert spares(9, [9, 2], FEWER_SECONDS)
    assert not spares(8, [9, 2], SPARE_SECONDS / 2), "one at a time"
    assert spares(8, [9, 3], SPARE_SECONDS)
    assert not spares(8, [9, 3], SPARE_SECONDS, requests=4), "fewer clients, who ask for more"
    worker.cfg.is_ssl = True
    assert not spares(8, [9, 3], SPARE_SECONDS)
    worker.cfg.is_ssl = False
    assert spares(8, [9, 3], SPARE_SECONDS)
    assert not spares(6, [9, 4], SPARE_SECONDS), "about as many"
    for _ in range(3):
        assert not spares(9, [], FRESH_SECONDS / 2), "the others stand still"


def test_a_worker_that_is_to_end_is_not_one_with_fewer(monkeypatch):
    """It takes no connections, and has ever fewer."""
    board = Board()
    monkeypatch.setattr("api.worker.BOARD", board)
    monkeypatch.setattr(ThreadWorker, "notify", lambda _: None)
    worker = Worker.__new__(Worker)
    worker.age, worker.alive, worker._asking, worker.nr_conns = 1, True, 1, 2
    for alive, told in ((True, (1, 2)), (False, None), (True, (1, 2))):
        worker.alive, worker._next_notice = alive, 0.0
        worker.notify()
        assert board.fewest_connections() == told


def test_clients_that_stay_are_shared_out_again_after_all_were_one_workers(weights):
    """As they are after the death of another: here it stands still while they come. Nobody's
    request is lost, and in the end nobody is moved any more.
    """
    settings = {"CHARRNN_WORKERS": "2", "CHARRNN_LOG_FORMAT": "json"}
    with running(CHARRNN_WEIGHTS=weights.root, **settings) as server, ExitStack() as stack:
        with connection_to_each_worker(server, 2):
            still = server.workers()[1]
            os.kill(still, signal.SIGSTOP)
        stack.callback(os.kill, still, signal.SIGCONT)
        clients = [Connection(server) for _ in range(10)]
        for client in clients:
            stack.callback(client.close)
            client.ask(path="/livez")
        os.kill(still, signal.SIGCONT)
        moved, quiet, until = 0, 0, time.monotonic() + PATIENCE
        while moved < 3 or quiet < 50:
            assert time.monotonic() < until, f"{moved} were moved"
            answers = [client.ask(path="/livez") for client in clients]
            assert {answer.status for answer in answers} == {200}
            now = sum(answer.headers["Connection"] == "close" for answer in answers)
            moved, quiet = moved + now, 0 if now else quiet + 1


@pytest.mark.parametrize("where", ["nowhere", "with the request", "behind it"])
def test_an_answer_ends_no_connection_on_which_more_has_come(where, monkeypatch):
    monkeypatch.setattr(Response, "spares", lambda _: True, raising=False)
    request = SimpleNamespace(
        unreader=Unreader(), should_close=lambda: False, method="GET", version=(1, 1)
    )
    if where == "with the request":
        request.unreader.buf.write(b"GET ")
    clients, ours = socket.socketpair()
    with clients, ours:
        if where == "behind it":
            clients.sendall(b"GET ")
        response = Response(request, ours, SimpleNamespace())
        response.start_response("200 OK", [("Content-Length", "0")])
        response.send_headers()
    assert (b"Connection: close" in response.head) == (where == "nowhere")
