"""A thread in each process that looks for newly promoted versions, so that no request pays for it.

It is started by a process that serves, never by an import or before a fork, and ends with the
models that it watches.
"""

import logging
import os
import threading
import weakref

from api.models import Models

LOOK_SECONDS = 0.1  # a look costs some microseconds a model
PAUSE_SECONDS = 5.0  # after a look that crashed

log = logging.getLogger(__name__)


class Watcher:
    """Keeps models fresh. Does nothing before `start`."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._process = 0  # which started the thread: threads don't survive a fork
        self._starting = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Refresh, then go on doing so in a thread; nothing where this process already does.

        A process may have been made long after the models were loaded: what was promoted in
        between is there before it answers.
        """
        if self._process == os.getpid():
            return
        with self._starting:
            if self._process == os.getpid():
                return
            self._models.refresh()
            self._stop = stop = threading.Event()
            watched = weakref.ref(self._models, lambda _: stop.set())
            threading.Thread(
                target=_watch, args=(watched, stop), name="watcher", daemon=True
            ).start()
            self._process = os.getpid()

    def stop(self) -> None:
        """End the thread, once it has finished what it is loading."""
        self._stop.set()


def _watch(watched: "weakref.ref[Models]", stop: threading.Event) -> None:
    while not stop.wait(LOOK_SECONDS):
        models = watched()
        if models is None:
            return
        try:
            models.refresh()
        except Exception:  # a later look may go well; without this thread none would come
            log.exception("the look for new versions failed")
            stop.wait(PAUSE_SECONDS)
        del models
