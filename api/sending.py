"""How answers are sent: in few calls of the system, and at times as the last of a connection."""

import errno
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from gunicorn.http import wsgi


class Response(wsgi.Response):  # type: ignore[misc]
    """Its head goes out with the first bytes of the body, in one packet."""

    aside: Callable[[], AbstractContextManager[None]]  # for those who wait, a worker's own
    spares: Callable[[], bool]  # a connection, likewise
    head = b""
    headers_sent: bool

    def send_headers(self) -> None:
        """Have the head ready. It may end a connection whose client has sent nothing more yet."""
        if not self.headers_sent:
            if not self.should_close() and self.spares() and not self._has_more():
                self.force_close()
            lines = [*self.default_headers(), *(f"{k}: {v}\r\n" for k, v in self.headers), "\r\n"]
            self.head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _has_more(self) -> bool:
        """Whether something has come behind the request."""
        if self.req.unreader.buf.getvalue():
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing; or it is broken, which sending will find
            return False

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        data, self.head = self.head + data, b""
        sent = 0
        if not self.cfg.is_ssl:
            with suppress(BlockingIOError):
                sent = self.sock.send(data, socket.MSG_DONTWAIT)
        if sent < len(data):
            with self.aside():
                try:
                    self.sock.sendall(memoryview(data)[sent:])
                except BlockingIOError:  # its time for sending is over: no fault of ours
                    raise BrokenPipeError(errno.EPIPE, "the client takes nothing") from None

    def can_sendfile(self) -> bool:
        """No: the system's call for files knows nothing of the head."""
        return False

    def close(self) -> None:
        """The end of the body; of an empty one the head, too."""
        self.send_headers()
        if self.chunked:
            self._send(b"0\r\n\r\n")
        elif self.head:
            self._send(b"")
