"""gunicorn's threaded worker, with the waiting for slow clients taken from its threads.

gthread hands a connection to a thread, which then waits for the request's bytes: as many silent
clients as there are threads stop it. And for each client that doesn't close its connection in the
end its main loop waits two seconds. Here both are events of the main loop: a thread gets a request
that has arrived as a whole, or what there is of it when its time is over.

Of its threads few are at work at once (`api.turns`). And a request costs fewer calls of the system:
the head of an answer goes out with the first bytes of its body (`api.sending`), a thread that has
answered and has nothing else to do takes the client's next request itself if it comes at once, and
the master hears of this worker once a second, not at every event.

A worker that has clearly more requests to answer than another one waits a moment before it accepts
a connection: so the connections of a burst, which then stay, are shared out evenly. And one that
has clearly more connections, as after another one's death, ends one with an answer now and then:
the client's next connection is open to all.
"""

import errno
import select
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from gunicorn.http import wsgi
from gunicorn.http.unreader import Unreader
from gunicorn.http2 import negotiation
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.admission import SPARE_THREADS, most_at_once
from api.arrivals import Arrival
from api.board import Board, Load
from api.sending import Response
from api.turns import STALL_SECONDS, TURNS, Turns

LINGER_SECONDS = 2.0  # for a client to read its answer and close
LINGER_BYTES = 1 << 20  # that it may still send meanwhile
PIECE = 1 << 16
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RETRY_SECONDS = 0.05  # before connections are accepted again that there were no means for
BOARD = Board()  # of this master's workers
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOTICE_SECONDS = 1.0  # between two signs of life
MOST_ANSWERED = 16  # connections, before the main loop is woken to take them back
CLEARLY_FEWER = 3  # requests, or connections, than here
COURTESY_SECONDS = 0.004  # for a worker with fewer requests to accept a connection first
FEWER_SECONDS = 0.5  # that a worker must have had clearly fewer connections to be given some
SPARE_SECONDS = 0.05  # between two of them
NEXT_MILLISECONDS = 5  # that a thread waits for the next request of the client that it has answered


class Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection whose bytes the main loop reads until they are a request."""

    arrival: Arrival
    is_complete = True  # the request that a thread was given
    drained = 0
    is_asking = False  # it is to be answered, or to ask
    wait: "Wait | None" = None  # the one that is going on


class Arrived(Unreader):  # type: ignore[misc]
    """The bytes of a request that have arrived, and then an end: no thread waits for a client, even
    where the parser and `Arrival` are not of one mind about where a request ends.
    """

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Nothing more."""
        return b""


class Wait(NamedTuple):
    """Until when a connection may do nothing. Over as soon as it is no longer `connection.wait`."""

    deadline: float
    connection: Connection


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """TLS and HTTP/2, for which gunicorn must be asked, go the way of gthread."""

    read_timeout = 10.0  # seconds for a whole request
    largest_body = 65_536  # bytes that are waited for; more is refused anyway
    most_requests: int | None = None  # for texts at once, where the operator has said so
    wsgi: Any  # the application

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._arriving: deque[Wait] = deque()  # in the order of their deadlines
        self._lingering: deque[Wait] = deque()
        self._answered: deque[tuple[Connection, Any]] = deque()
        self._next_notice = self._next_spare = 0.0
        self._more_since: float | None = None  # connections, clearly, than another one has
        self._asking = 0  # connections that are, as BOARD has it

    def init_process(self) -> None:
        """Answer by our own response: gunicorn has no setting for it."""
        wsgi.Response = Response
        super().init_process()

    def load_wsgi(self) -> None:
        """Tell the application, with each request, how its thread lets others have their turn. An
        absolute address without a path is that of / (RFC 9112, 3.2.1).
        """
        super().load_wsgi()
        application, turns = self.wsgi, self.tpool

        def answer(environ: dict[str, Any], start: Any) -> Any:
            path = environ["PATH_INFO"] or "/"
            return application({**environ, TURNS: turns, "PATH_INFO": path}, start)

        self.wsgi = answer

    def get_thread_pool(self) -> Turns:
        """The threads, which take turns: never so few that texts take them all."""
        most = most_at_once(self.most_requests, self.cfg.threads)
        turns = Turns(max(self.cfg.threads, most + SPARE_THREADS))
        Response.aside, Response.spares = turns.aside, self._spares
        return turns

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """See to the threads, too, as long as requests wait for them."""
        if self.tpool.waiting or self._answered:
            timeout = min(timeout, STALL_SECONDS)
        super().wait_for_and_dispatch_events(timeout)
        self._take_back()
        self.tpool.see_to_stalls()

    def _take_back(self) -> None:
        """Go on with the connections whose requests were answered."""
        while self._answered:
            self.finish_request(*self._answered.popleft())

    def _note_answered(self, conn: Connection, future: Any) -> None:
        """In a thread: the main loop takes connections back some at a time. It is at work while
        requests wait for a thread, so none is forgotten.
        """
        self._answered.append((conn, future))
        if self.tpool.waiting < 2 or len(self._answered) >= MOST_ANSWERED:
            self.method_queue.defer(self._take_back)

    def notify(self) -> None:
        """Tell the master that this worker lives."""
        now = time.monotonic()
        if now >= self._next_notice:
            self._next_notice = now + NOTICE_SECONDS
            self._tell_others()
            super().notify()

    def _tell_others(self) -> None:
        """How much there is to do here; nothing where this worker is to end."""
        if self.alive:
            BOARD.note(self.age, Load(self._asking, self.nr_conns))
        else:
            BOARD.forget(self.age)

    def _spares(self) -> bool:
        """In a thread: whether another worker has had clearly fewer connections for some time, and
        no more to do, so that it may have one of these. Those that stay for one request come and
        go, and even out. Under TLS the main loop would wait for each client to close.
        """
        now = time.monotonic()
        if now < self._next_spare or self.cfg.is_ssl:
            return False
        self._next_spare, since = now + SPARE_SECONDS, self._more_since
        other = BOARD.fewest_connections()
        has_more = other is not None and self.nr_conns >= other.connections + CLEARLY_FEWER
        self._more_since = since = (since or now) if has_more else None
        if other is None or since is None:
            return False
        return now >= since + FEWER_SECONDS and other.requests <= self._asking

    def accept(self, listener: Any) -> None:
        """Accept a connection, unless another worker was faster."""
        fewest = BOARD.fewest_requests() if self._asking else None
        if fewest is not None and fewest + CLEARLY_FEWER <= self._asking:
            time.sleep(COURTESY_SECONDS)
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # too many open files, say: those that are open go on
            if error.errno not in EXHAUSTED:
                raise
            self.log.warning("a connection had to wait: %s", error.strerror)
            time.sleep(RETRY_SECONDS)
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self.cfg, client, address, listener.getsockname()))

    def enqueue_req(self, conn: Connection) -> None:
        """Give a connection to a thread once its next request has arrived."""
        self._note_asking(conn, is_asking=True)
        if self.cfg.is_ssl or conn.is_http2 or _may_become_http2(self.cfg, conn):
            super().enqueue_req(conn)
            return
        conn.arrival = Arrival(self.largest_body)
        try:
            conn.sock.setblocking(False)
            if conn.parser is not None and (early := conn.parser.unreader.take_buffered()):
                _add(conn, early)  # it came with the request before
            if self._read(conn):
                self._give(conn)
            else:
                self._wait(conn, self._arriving, self.read_timeout, self._on_bytes)
        except OSError:  # reset
            self._drop(conn)

    def _wait(self, conn: Connection, waits: deque[Wait], seconds: float, then: Any) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))
        conn.wait = Wait(time.monotonic() + seconds, conn)
        waits.append(conn.wait)

    def _end_wait(self, conn: Connection) -> None:
        conn.wait = None
        self.poller.unregister(conn.sock)

    def _on_bytes(self, conn: Connection, _: Any) -> None:
        try:
            if not self._read(conn):
                return
        except OSError:
            self._end_wait(conn)
            self._drop(conn)
            return
        self._end_wait(conn)
        self._give(conn)

    def _read(self, conn: Connection) -> bool:
        """Take what has come. Returns whether that is all. Raises OSError where it is broken."""
        arrival = conn.arrival
        try:
            while not arrival.is_whole and (piece := conn.sock.recv(PIECE)):
                _add(conn, piece)
        except BlockingIOError:
            return False
        return True

    def _give(self, conn: Connection) -> None:
        """Let a thread have what there is. It may find less than a request, never wait for it."""
        if not conn.arrival.data:  # closed without a word
            self._drop(conn)
            return
        conn.init()
        conn.parser.unreader = Arrived()
        conn.parser.unreader.unread(bytes(conn.arrival.data))
        conn.is_complete = conn.arrival.is_complete
        conn.data_ready = True
        self.tpool.submit(self.handle, conn).add_done_callback(partial(self._note_answered, conn))

    def handle(self, conn: Connection) -> Any:
        """Answer a request, and the client's next ones as long as they come at once; in a thread of
        the pool. Nobody who waits for a thread waits for them.
        """
        if not hasattr(conn, "arrival"):  # gunicorn's own way, which waits for the client
            with self.tpool.aside():
                return super().handle(conn)
        result = super().handle(conn)
        while result is True and self._has_next(conn):
            result = super().handle(conn)
        return result

    def _has_next(self, conn: Connection) -> bool:
        """Whether the client's next request has come as a whole, and nobody else is at work: they
        would compute by turns, each for a client of its own, and nothing would be done together.
        """
        if not self.alive or self.tpool.waiting or conn.parser.unreader.buf.getvalue():
            return False
        try:
            look = select.poll()
            look.register(conn.sock, select.POLLIN)
            with self.tpool.aside():
                if not look.poll(NEXT_MILLISECONDS) or self.tpool.is_full:
                    return False
            piece = conn.sock.recv(PIECE, socket.MSG_DONTWAIT)
        except OSError:  # which the main loop will find, too
            return False
        arrival = Arrival(self.largest_body)
        arrival.add(piece)
        conn.parser.unreader.unread(piece)  # the main loop goes on from here, if it is not whole
        conn.is_complete = arrival.is_complete
        return arrival.is_whole and not arrival.expects_a_word

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """A body that was refused before it came is not waited for: its connection ends here."""
        return bool(super()._keepalive_after(conn, keepalive and conn.is_complete))

    def finish_request(self, conn: Connection, future: Any) -> None:
        """Keep the connection for the next request, or close it without waiting for the client."""
        self._note_asking(conn, is_asking=False)
        goes_on = self.cfg.is_ssl or future.cancelled() or future.exception() or future.result()
        if goes_on or conn.is_http2:
            super().finish_request(conn, future)
            return
        # Closed at once, bytes of the client's that were never read would reset the connection, and
        # could take the answer with them. So say that no more will come, and wait until it closes.
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._wait(conn, self._lingering, LINGER_SECONDS, self._on_rest)
        except (OSError, ValueError):  # it is closed already
            self._drop(conn)

    def _on_rest(self, conn: Connection, _: Any) -> None:
        with suppress(OSError):
            rest = conn.sock.recv(PIECE)
            conn.drained += len(rest)
            if rest and conn.drained < LINGER_BYTES:
                return
        self._end_wait(conn)
        self._drop(conn)

    def _note_asking(self, conn: Connection, *, is_asking: bool) -> None:
        self._asking += is_asking - conn.is_asking
        conn.is_asking = is_asking
        self._tell_others()

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        self._note_asking(conn, is_asking=False)
        conn.close()

    def murder_pending(self) -> None:
        """End the waits that have lasted too long; called after events, and once a second."""
        super().murder_pending()
        now = time.monotonic()
        for conn in _over(self._arriving, now):
            self._end_wait(conn)
            self._give(conn)
        for conn in _over(self._lingering, now):
            self._end_wait(conn)
            self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that is to stop doesn't wait long for clients that have not begun to ask."""
        super()._cap_keepalive(deadline)
        waits = [wait for wait in self._arriving if wait.connection.wait is wait]
        self._arriving.clear()
        for wait in waits:
            if not wait.connection.arrival.data:
                wait.connection.wait = wait = wait._replace(deadline=min(wait.deadline, deadline))
            self._arriving.append(wait)
        self._arriving = deque(sorted(self._arriving, key=lambda wait: wait.deadline))


def _add(conn: Connection, piece: bytes) -> None:
    """Take bytes of a request; a client that waits for a word before it sends the rest gets it."""
    conn.arrival.add(piece)
    if conn.arrival.expects_a_word and not conn.arrival.is_whole:
        conn.sock.send(CONTINUE)
        conn.arrival.take_word()


def _over(waits: deque[Wait], now: float) -> list[Connection]:
    """Those whose time is over, taken out; with them go the waits that have ended before."""
    over = []
    while waits and (waits[0].connection.wait is not waits[0] or waits[0].deadline <= now):
        wait = waits.popleft()
        if wait.connection.wait is wait:
            over.append(wait.connection)
    return over


def _may_become_http2(cfg: Any, conn: Connection) -> bool:
    return bool(
        negotiation.prior_knowledge_allowed(cfg, conn.client)
        or negotiation.upgrade_allowed(cfg, conn.client)
    )
