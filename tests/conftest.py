"""The long proofs run by `make prove` alone; their short forms run in every test. Examples that
hypothesis draws are the same in every run. Products use one thread, as in `make test` and wherever
texts are generated: the number of threads may change last bits.
"""

import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is imported

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Ctrl-C reaches the programs that tests start, though who started them may ignore it, as a
    shell has it for what it runs in the background.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CHARRNN_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a long proof: `make prove` runs it"))


@pytest.fixture
def nightly(tmp_path):
    """A model whose recipe is lenient, so that whatever is trained goes live."""
    from tests.nights import Place  # not for tests that train nothing

    return Place(tmp_path, steps=20)


@pytest.fixture
def as_large(monkeypatch):
    """All text counts as large, and is read in small pieces."""
    from charrnn import corpus, reading

    def go(piece=5_000):
        monkeypatch.setattr(corpus, "LARGE_TEXT", 0)
        monkeypatch.setattr(reading, "PIECE", piece)

    return go
