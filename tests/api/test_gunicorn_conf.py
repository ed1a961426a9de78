"""What gunicorn.conf.py sets up: signals, workers that die, the log, numbers of several workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from api.shared_metrics import PREFIX
from tests.api.load import Connection, connection_to_each_worker, load
from tests.api.server import PATIENCE, gunicorn, running
from tests.api.test_metrics import read

ROOT = Path(__file__).parent.parent.parent
BODIES = [{"random_seed": n, "count": 5} for n in range(10)]
LONG = {"model": "prose", "count": 20, "max_length": 1000, "random_seed": 1}
TWO = {"CHARRNN_WORKERS": "2", "CHARRNN_LOG_FORMAT": "json"}


def test_sigterm_answers_what_was_asked_and_ends_with_code_0(weights):
    with (
        running(CHARRNN_WEIGHTS=weights.root, **TWO) as server,
        connection_to_each_worker(server, 2) as connections,
    ):
        answers = []
        threads = [
            threading.Thread(target=lambda each=each: answers.append(each.ask(LONG)))
            for each in connections
        ]
        for thread in threads:
            thread.start()
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert [each.status for each in answers] == [200, 200]
        assert {len(each.answer["samples"]) for each in answers} == {20}
        assert server.process.wait(timeout=PATIENCE) == 0


def test_a_worker_that_is_draining_is_not_ready(weights):
    with (
        running(CHARRNN_WEIGHTS=weights.root, CHARRNN_LOG_FORMAT="json") as server,
        connection_to_each_worker(server, 1) as (connection,),
    ):
        assert connection.ask(path="/readyz").status == 200
        os.kill(server.workers()[0], signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while (status := connection.ask(path="/readyz").status) == 200:
            assert time.monotonic() < deadline
        assert status == 503


def test_sighup_loses_no_request_and_replaces_every_worker(weights):
    with running(CHARRNN_WEIGHTS=weights.root, **TWO) as server, load(server, BODIES) as seen:
        before = server.workers()
        for times in (2, 3):
            seen.wait_for_more(10)
            server.process.send_signal(signal.SIGHUP)
            server.log.wait_for("Booting worker", 2 * times)
        for pid in before:
            server.log.wait_for(f"Worker exiting (pid: {pid})")
        seen.wait_for_more(10)
    assert not seen.broken
    assert not seen.failures()


def test_while_old_workers_finish_new_ones_are_replaced_and_the_end_is_heard(weights):
    endless = {"model": "prose", "count": 100, "max_length": 99_999, "stream": True}
    one = {"CHARRNN_WEIGHTS": weights.root, "CHARRNN_MAX_LENGTH": "99999"}
    one["CHARRNN_MAX_CHARACTERS"] = "9999900"
    with running("--graceful-timeout=60", CHARRNN_WORKERS="1", **one) as server:
        body = json.dumps(endless).encode()
        with socket.create_connection((server.host, server.port)) as reader:
            head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            reader.sendall(head % len(body) + body)
            assert b"200 OK" in reader.recv(1000)  # no more is read: it stands still
            server.process.send_signal(signal.SIGHUP)
            server.log.wait_for("Booting worker", 2)
            os.kill(server.workers()[-1], signal.SIGKILL)
            server.log.wait_for("Booting worker", 3)
            live = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert server.send(live).status == 200
            server.process.send_signal(signal.SIGTERM)
            server.log.wait_for(f"Worker exiting (pid: {server.workers()[-1]})")
        assert server.process.wait(timeout=PATIENCE) == 0


def test_sigusr2_hands_the_service_on_to_a_new_master(weights):
    with running(CHARRNN_WEIGHTS=weights.root, **TWO) as server, load(server, BODIES) as seen:
        server.process.send_signal(signal.SIGUSR2)
        server.log.wait_for("Booting worker", 4)
        listening = [line for line in server.log.lines() if "Listening at" in line["message"]]
        (old, new) = (line["pid"] for line in listening)
        try:
            assert old == server.process.pid
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PATIENCE)
            seen.wait_for_more(10)
        finally:
            os.kill(new, signal.SIGTERM)
            server.log.wait_for_end()
    assert not seen.failures()


def test_a_killed_worker_costs_its_own_requests_and_is_replaced(weights):
    clients, kills = 4, 3
    with (
        running(CHARRNN_WEIGHTS=weights.root, **TWO) as server,
        load(server, BODIES, clients) as seen,
    ):
        for number in range(kills):
            seen.wait_for_more(10)
            killed = time.monotonic()
            server.kill_a_worker()
            server.log.wait_for("Booting worker", 3 + number)
            assert time.monotonic() - killed < 2
            seen.wait_for_more(10)
        lost = len(seen.broken)
        seen.wait_for_more(50)
    assert lost <= clients * kills
    assert len(seen.broken) == lost, "once it was replaced, nothing more was lost"
    assert not seen.failures()


def test_the_numbers_are_those_of_all_workers_and_outlive_them(weights):
    with running(CHARRNN_WEIGHTS=weights.root, **TWO) as server:
        for kill in (False, True):
            if kill:
                server.kill_a_worker()
                server.log.wait_for("Booting worker", 3)
            with connection_to_each_worker(server, 2) as connections:
                for each in connections:
                    assert each.ask({"random_seed": 1}).status == 200
                labels = (("method", "POST"), ("route", "/generate"), ("status", "200"))
                for each in connections:
                    # It is counted when its answer has been sent, which the reader sees first.
                    deadline = time.monotonic() + PATIENCE
                    while time.monotonic() < deadline:
                        numbers = read(each.ask(path="/metrics").answer)
                        if numbers["charrnn_requests_total", labels] == (4 if kill else 2):
                            break
                    assert numbers["charrnn_requests_total", labels] == (4 if kill else 2)


def test_the_folder_of_the_numbers_goes_with_the_service(weights):
    with running(CHARRNN_WEIGHTS=weights.root) as server:
        maps = Path(f"/proc/{server.workers()[0]}/maps").read_text()
        (folder,) = {Path(line.split()[-1]).parent for line in maps.splitlines() if PREFIX in line}
        assert folder.is_dir()
    assert not folder.exists()


def test_every_line_is_json_with_the_id_of_its_request(weights):
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_LOG_FORMAT="json") as server:
        connection = Connection(server)
        connection.ask({"random_seed": 1}, X_Request_ID="abc")
        connection.ask({"version": "bad0bad0"}, X_Request_ID="def")
        connection.close()
        server.log.wait_for('"def"', 2)
    lines = server.log.lines()
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "api.access", "api.models"}
    assert all({"time", "level", "logger", "pid", "message"} <= set(line) for line in lines)
    (access,) = (line for line in lines if line.get("request_id") == "abc")
    assert (access["route"], access["status"], access["model"]) == ("/generate", 200, "dinosaurs")
    assert {line["logger"] for line in lines if line.get("request_id") == "def"} == {
        "api.access",
        "api.models",
    }


def test_the_access_log_can_be_turned_off(weights):
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_ACCESS_LOG="off") as server:
        pass
    assert "route=" not in str(server.log)


def test_a_refusal_to_start_is_a_line_of_json_where_the_log_is(tmp_path):
    (tmp_path / "notes.txt").touch()
    process = gunicorn(CHARRNN_WEIGHTS=str(tmp_path), CHARRNN_LOG_FORMAT="json")
    _, written = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    messages = [json.loads(line)["message"] for line in written.splitlines()]
    assert any("charrnn can't start: there is no trained model" in each for each in messages)


def test_what_a_worker_said_of_its_load_is_forgotten_when_it_is_dead(tmp_path):
    code = """
import runpy
from types import SimpleNamespace
from api.board import Load
from api.worker import BOARD
hooks = runpy.run_path("gunicorn.conf.py")
for age in (7, 8):
    BOARD.note(age, Load(age, age))
assert BOARD.fewest_requests() == 7
hooks["child_exit"](None, SimpleNamespace(age=7))
assert BOARD.fewest_requests() == 8
"""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=True, timeout=60)
