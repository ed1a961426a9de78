"""A load of HTTP requests from many clients at once, in one thread: each sends a request, reads its
answer, and sends the next on the same connection.
"""

import json
import selectors
import socket
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

CONNECT_SECONDS = 5.0
PATIENCE = 60.0  # seconds without a byte, after which a request has failed
RETRY_SECONDS = 0.01  # after a connection that was refused


@dataclass
class Outcome:
    """What became of the requests of one load."""

    seconds: float
    statuses: dict[int, int] = field(default_factory=dict)  # 0: no answer
    latencies: list[float] = field(default_factory=list)  # seconds, of answers with status 200
    first_bytes: list[float] = field(default_factory=list)  # of bodies, likewise
    refusals: list[float] = field(default_factory=list)  # of answers with status 503
    wrong: int = 0  # answers with status 200 that are not what they should be

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
        self.began, self.first, self.data, self.body = 0.0, 0.0, b"", b""
        self.number = 0  # of its request
        self.closes = False  # the server does, after this answer

    def send(self, request: bytes, number: int) -> None:
        self.number, self.data, self.first = number, b"", 0.0
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
        self.body = body
        return int(head.split(b" ", 2)[1]) if whole else None


def load(
    address: tuple[str, int],
    clients: int,
    seconds: float,
    request: Callable[[int], bytes],
    *,
    rate: float | None = None,
    is_right: Callable[[int, bytes], bool] = lambda number, body: True,
) -> Outcome:
    """Requests from so many clients, for so long.

    Args:
        address: host and port.
        clients: connections, each with one request under way.
        seconds: after which no further request is sent; those under way are waited for.
        request: the bytes of the nth request.
        rate: requests a second at most, of all clients; None for as many as are answered.
        is_right: whether the nth good answer's body is what it should be.
    """
    return _Load(address, request, rate, is_right).run(clients, seconds)


class _Load:
    def __init__(
        self,
        address: tuple[str, int],
        request: Callable[[int], bytes],
        rate: float | None,
        is_right: Callable[[int, bytes], bool],
    ) -> None:
        self.address, self.request, self.rate, self.is_right = address, request, rate, is_right
        self.outcome, self.sent = Outcome(0.0), 0
        self.selector = selectors.DefaultSelector()
        self.idle: deque[_Client | None] = deque()  # that may send; None: one to connect first
        self.busy: set[_Client] = set()

    def run(self, clients: int, seconds: float) -> Outcome:
        self.idle.extend([None] * clients)
        self.started = heard = time.perf_counter()

        def is_over() -> bool:
            return now - self.started > seconds and self.sent >= clients

        while True:
            now = time.perf_counter()
            wait = PATIENCE
            while self.idle and not is_over():
                if self.rate and self.sent / self.rate > now - self.started:
                    wait = self.sent / self.rate - (now - self.started)
                    break
                if not self._send(self.idle.popleft()):
                    wait = RETRY_SECONDS
                    break
            if not self.busy and (is_over() or not self.idle):
                break
            for key, _ in self.selector.select(wait):
                heard = now
                self._read(key.data)
            if now - heard > PATIENCE:
                self._note(0, len(self.busy))
                break
        self.outcome.seconds = time.perf_counter() - self.started
        for client in (*self.busy, *filter(None, self.idle)):
            client.socket.close()
        self.selector.close()
        return self.outcome

    def _send(self, client: "_Client | None") -> bool:
        """The next request, on this connection or a new one. Whether it went out."""
        number = self.sent
        self.sent += 1
        try:
            if client is None:
                client = _Client(self.address)
                self.selector.register(client.socket, selectors.EVENT_READ, client)
            self.busy.add(client)
            client.send(self.request(number), number)
        except OSError:
            self._note(0)
            if client is not None:
                self._drop(client)
            self.idle.append(None)
            return False
        return True

    def _read(self, client: "_Client") -> None:
        try:
            status = client.read()
        except OSError:
            status = 0
        if status is None:
            return
        if client not in self.busy:  # an idle connection that the server has closed
            self.idle.remove(client)
            self._drop(client)
            self.idle.append(None)
            return
        now = time.perf_counter()
        self._note(status)
        if status == 200:
            self.outcome.latencies.append(now - client.began)
            self.outcome.first_bytes.append(client.first - client.began)
            self.outcome.wrong += not self.is_right(client.number, client.body)
        elif status == 503:
            self.outcome.refusals.append(now - client.began)
        if client.closes or not status:
            self._drop(client)
            self.idle.append(None)
        else:
            self.busy.discard(client)
            self.idle.append(client)

    def _drop(self, client: "_Client") -> None:
        self.selector.unregister(client.socket)
        client.socket.close()
        self.busy.discard(client)

    def _note(self, status: int, count: int = 1) -> None:
        self.outcome.statuses[status] = self.outcome.statuses.get(status, 0) + count


def median(values: list[float]) -> float:
    """The median; NaN for none."""
    return statistics.median(values) if values else float("nan")
