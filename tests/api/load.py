"""Clients that ask a running server again and again, and keep what they were answered."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.api.server import PATIENCE, Server


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; `answer` is None where the connection broke."""

    body: dict[str, Any]
    status: int
    answer: Any
    headers: dict[str, str]


class Connection:
    """A connection that is kept alive, and so leads to the same worker as long as that keeps it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)

    def ask(
        self, body: dict[str, Any] | None = None, path: str = "/generate", **headers: str
    ) -> Exchange:
        """Ask once; without a body it is a GET."""
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, data, names)
        answer = self._connection.getresponse()
        text, given = answer.read(), dict(answer.getheaders())
        is_json = "json" in given.get("Content-Type", "")
        read = json.loads(text) if is_json else text.decode()
        return Exchange(body or {}, answer.status, read, given)

    def close(self) -> None:
        self._connection.close()


@dataclass
class Load:
    """What the clients have seen."""

    exchanges: list[Exchange] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)  # when a connection broke

    def failures(self) -> list[Exchange]:
        return [each for each in self.exchanges if each.status != 200]

    def wait_for_more(self, number: int) -> None:
        """Until so many more requests were answered."""
        wanted, deadline = len(self.exchanges) + number, time.monotonic() + PATIENCE
        while len(self.exchanges) < wanted:
            assert time.monotonic() < deadline, "the server has stopped answering"
            time.sleep(0.01)


@contextmanager
def load(server: Server, bodies: list[dict[str, Any]], clients: int = 4) -> Iterator[Load]:
    """Clients that go on until the block ends, each request on a connection of its own."""
    seen, stop, numbers = Load(), threading.Event(), count()

    def ask() -> None:
        while not stop.is_set():
            body = bodies[next(numbers) % len(bodies)]
            connection = Connection(server)
            try:
                seen.exchanges.append(connection.ask(body, Connection="close"))
            except (OSError, http.client.HTTPException):
                seen.broken.append(time.monotonic())
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def connection_to_each_worker(server: Server, workers: int) -> Iterator[list[Connection]]:
    """A kept connection to every worker, found by the lines that they write of their requests."""
    found: dict[int, Connection] = {}
    with ExitStack() as stack:
        for number in count():
            assert number < 1000, f"only {len(found)} of {workers} workers answer"
            connection, name = Connection(server), f"looking-{time.monotonic_ns()}"
            stack.callback(connection.close)
            connection.ask(path="/livez", X_Request_ID=name)
            server.log.wait_for(name)
            (pid,) = (line["pid"] for line in server.log.lines() if line.get("request_id") == name)
            if found.setdefault(pid, connection) is not connection:
                connection.close()
            if len(found) == workers:
                break
        yield list(found.values())
