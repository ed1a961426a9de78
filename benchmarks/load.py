"""A load of HTTP requests from many clients at once, in one thread: each sends a request, reads its
answer, and sends the next on the same connection.
"""

import json
import selectors
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CONNECT_SECONDS = 5.0
PATIENCE = 60.0  # seconds without a byte, after which a request has failed


@dataclass
class Outcome:
    """What became of the requests of one load."""

    seconds: float
    statuses: dict[int, int] = field(default_factory=dict)  # 0: no answer
    latencies: list[float] = field(default_factory=list)  # seconds, of answers with status 200
    first_bytes: list[float] = field(default_factory=list)  # of bodies, likewise
    refusals: list[float] = field(default_factory=list)  # of answers with status 503

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def failed(self) -> int:
        """Requests with any other answer than 200, or none."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    def percentile(self, share: float) -> float:
        """The latency that so many of the good answers don't exceed, seconds."""
        return percentile(self.latencies, share)


def percentile(values: list[float], share: float) -> float:
    """The value that so many don't exceed; NaN for none."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def post(path: str, body: dict[str, object]) -> bytes:
    """A request with a JSON body, as bytes."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class _Client:
    """One connection, and the answer that it is reading."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=CONNECT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.began, self.first, self.data = 0.0, 0.0, b""
        self.closes = False  # the server does, after this answer

    def send(self, request: bytes) -> None:
        self.data, self.first = b"", 0.0
        self.began = time.perf_counter()
        self.socket.send(request)

    def read(self) -> int | None:
        """Take what has come. The status, once the answer is whole; 0 where it never will be."""
        piece = self.socket.recv(1 << 16)
        if not piece:
            return 0
        self.data += piece
        head, separator, body = self.data.partition(b"\r\n\r\n")
        if not separator:
            return None
        if body and not self.first:
            self.first = time.perf_counter()
        head = head.lower()
        self.closes = b"connection: close" in head
        if b"transfer-encoding: chunked" in head:
            whole = body.endswith(b"0\r\n\r\n")
        else:
            whole = len(body) >= int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]) if whole else None


def load(
    address: tuple[str, int],
    clients: int,
    seconds: float,
    request: Callable[[int], bytes],
    *,
    least: int = 0,
) -> Outcome:
    """Requests from so many clients, for so long, or until `least` good answers have come.

    Args:
        address: host and port.
        clients: connections, each with one request under way.
        seconds: after which no further request is sent; those under way are waited for.
        request: the bytes of the nth request.
        least: good answers to wait for beyond the time, at most PATIENCE long.
    """
    selector, sent = selectors.DefaultSelector(), 0
    outcome = Outcome(0.0)
    started = time.perf_counter()
    busy: set[_Client] = set()
    for _ in range(clients):
        client = _Client(address)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(request(sent))
        sent += 1
        busy.add(client)
    while busy:
        events = selector.select(PATIENCE)
        if not events:
            outcome.statuses[0] = outcome.statuses.get(0, 0) + len(busy)
            break
        for key, _ in events:
            client = key.data
            try:
                status = client.read()
            except OSError:
                status = 0
            if status is None:
                continue
            now = time.perf_counter()
            _note(outcome, status, client, now)
            over = now - started > seconds and (
                len(outcome.latencies) >= least or now - started > seconds + PATIENCE
            )
            if over or not status or client.closes:
                selector.unregister(client.socket)
                client.socket.close()
                busy.discard(client)
            if client not in busy and not over:
                client = _Client(address)
                selector.register(client.socket, selectors.EVENT_READ, client)
                busy.add(client)
            if not over:
                client.send(request(sent))
                sent += 1
    outcome.seconds = time.perf_counter() - started
    return outcome


def _note(outcome: Outcome, status: int, client: _Client, now: float) -> None:
    outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    if status == 200:
        outcome.latencies.append(now - client.began)
        outcome.first_bytes.append(client.first - client.began)
    elif status == 503:
        outcome.refusals.append(now - client.began)


def median(values: list[float]) -> float:
    """The median; NaN for none."""
    return statistics.median(values) if values else float("nan")
