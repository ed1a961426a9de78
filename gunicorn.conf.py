"""How gunicorn runs the service, from CHARRNN_* variables; gunicorn's own options win over them."""

import os

# A worker for each core already: more threads in a product would fight over the cores. numpy reads
# these when it is imported, which happens in the lines below.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import ctypes
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

import charrnn
from api import logs, shared_metrics
from api.operations import example
from api.settings import ServiceSettings
from api.worker import BOARD, Worker
from charrnn.errors import CharRNNError

# glibc gives each thread memory of its own, and what one thread frees no other uses: with a hundred
# threads that is much, and grows. Two such places do, and what is large goes back to the system.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
with suppress(AttributeError, OSError):  # another C library
    _mallopt = ctypes.CDLL(None).mallopt
    _mallopt(_ARENA_MAX, 2)
    _mallopt(_MMAP_THRESHOLD, 1 << 18)


def _refuse(message: str) -> None:
    style = os.environ.get("CHARRNN_LOG_FORMAT", logs.AUTO)  # whatever else is wrong
    sys.exit(logs.refusal(message, style))


try:
    _settings = ServiceSettings.from_environment()
except CharRNNError as error:
    _refuse(f"charrnn can't start: {error}")

shared_metrics.prepare()  # before the application is loaded, which makes its metrics

_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host

wsgi_app = "wsgi:app"
bind = f"{_host}:{_settings.port}"
workers = _settings.workers
worker_class = "api.worker.Worker"
threads = _settings.threads
Worker.read_timeout = float(_settings.read_timeout)
Worker.largest_body = _settings.max_body
Worker.most_requests = _settings.max_requests

# Loaded once, in the master, before it forks: the weights and the libraries are shared between the
# workers, a worker that died is back within milliseconds, and a service that can't start says so
# once instead of once a worker. Nothing in it starts a thread, so forking it is safe. New weights
# are picked up by each worker. SIGHUP replaces the workers by forks of the same code and settings;
# new code needs a new master (SIGUSR2, or a restart), new settings a restart.
preload_app = True

timeout = 60  # seconds without a sign of life from a worker's main loop, which never computes
graceful_timeout = 30  # seconds for running requests to finish after SIGTERM
keepalive = 5
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190

control_socket_disable = True  # its one path is shared: a second service would take it over
_memory = Path("/dev/shm")  # a slow disk must not look like a dead worker
worker_tmp_dir = str(_memory) if _memory.is_dir() else None

accesslog = None  # the service writes its own, with what it knows of a request
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s bytes %(M)s ms'

logs.configure(_settings.log_format)


ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
INVALID = "Invalid request from ip="  # gunicorn's words; then the address and what it found


class _Logger(Logger):
    """gunicorn's own lines, in the same form as all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in [*self.error_log.handlers, *self.access_log.handlers]:
            handler.setFormatter(logs.formatter(_settings.log_format))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Of a request that is no HTTP only who sent it: what is quoted may be a key."""
        if msg.startswith(INVALID):
            msg = msg.partition(": ")[0]
        super().warning(msg, *args, **kwargs)


logger_class = _Logger


def on_starting(server: Any) -> None:
    """Refuse an address that can't be had, in one line; gunicorn would try for five seconds."""
    shared = server.master_pid or "LISTEN_FDS" in os.environ or server.cfg.reuse_port
    for address in [] if shared else server.cfg.address:
        if isinstance(address, tuple):
            _refuse_unless_free(address)


def _refuse_unless_free(address: tuple[str, int]) -> None:
    host, port = address
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror as error:
        _refuse(
            f"charrnn can't listen on {host}: {error.strerror}; set CHARRNN_HOST to an address of "
            "this machine"
        )
    except OSError as error:
        _refuse(
            f"charrnn can't listen on {host} port {port}: {error.strerror}; stop what is there, or "
            f"set CHARRNN_PORT to another port (CHARRNN_PORT=8001) and CHARRNN_HOST to an address "
            "of this machine"
        )


def when_ready(server: Any) -> None:
    """Say where the service is, what to try, and which products it computes with."""
    url = str(server.LISTENERS[0])
    models = server.app.wsgi().extensions["charrnn"]
    server.log.info("charrnn is listening on %s", url)
    server.log.info("try: %s", example(url, models.default, _settings.max_count))
    server.log.info("matrix products: %s", charrnn.blas_kernel())


def on_reload(server: Any) -> None:
    """At SIGHUP, before the new workers. Until the old ones have ended gunicorn sees to nothing but
    their ends: in that time, too, new workers that die are replaced, and who is to end ends.
    """
    reap, old = type(server).reap_workers, server.worker_age

    def see_to_workers() -> None:
        reap(server)
        if not server.LISTENERS:  # it is ending
            return
        new = sum(worker.age > old for worker in server.WORKERS.values())
        for _ in range(server.num_workers - new):
            server.spawn_worker()
        for number in [server.SIG_QUEUE.get_nowait() for _ in range(server.SIG_QUEUE.qsize())]:
            if number in ENDINGS:
                getattr(server, f"handle_{server.SIG_NAMES[number]}")()  # which raises
            server.SIG_QUEUE.put_nowait(number)

    server.reap_workers = see_to_workers


def pre_exec(server: Any) -> None:
    """At SIGUSR2, before a new master takes this one's place: of `python -m gunicorn` gunicorn
    would run the file, whose folder then hides modules of Python's own.
    """
    python, file, *options = server.START_CTX["args"]
    if Path(file).name == "__main__.py":
        server.START_CTX["args"] = [python, "-m", "gunicorn", *options]


def pre_fork(server: Any, worker: Any) -> None:
    """In the master."""
    shared_metrics.take_slot(worker.age)


def post_fork(server: Any, worker: Any) -> None:
    """In the worker: no connection that it will accept may hold a thread for ever."""
    shared_metrics.enter_slot(worker.age)
    waits = {
        socket.SO_RCVTIMEO: _settings.read_timeout,
        # For a client to take some bytes: longer than texts may stand still for one that doesn't.
        socket.SO_SNDTIMEO: _settings.time_limit + _settings.read_timeout,
    }
    for listener in worker.sockets:  # connections inherit them
        for option, seconds in waits.items():
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))


def post_worker_init(worker: Any) -> None:
    """In the worker, before its first request: serve what is live by now, and go on watching."""
    extensions = worker.app.wsgi().extensions
    extensions["charrnn.desk"].has_threads(worker.cfg.threads)
    extensions["charrnn.health"].is_draining = lambda: not worker.alive
    extensions["charrnn.watcher"].start()


def child_exit(server: Any, worker: Any) -> None:
    """In the master, once a worker is dead."""
    shared_metrics.leave_slot(worker.age)
    BOARD.forget(worker.age)
