"""The standard streams of a program that goes on without them: who listens to a training, and
whether its log finds room, changes nothing of what comes of it.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


class Lossy(io.FileIO):
    """A file that takes everything, and loses what there is no room for, or no reader."""

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def open_streams() -> None:
    """Open those that are closed on nothing, and let no progress fail: stderr is `Lossy`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # in this order, each gets its own number again
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for good
    raw = Lossy(sys.stderr.fileno(), "w", closefd=False)
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)


@contextmanager
def if_heard() -> Iterator[None]:
    """For a result on stdout that the exit status and the weights folder tell, too."""
    try:
        yield
    except OSError as error:
        give_up_stdout()
        if not isinstance(error, BrokenPipeError):
            click.echo(f"the result could not be written to stdout: {error.strerror}", err=True)


def give_up_stdout() -> None:
    """Lose what stdout did not take: trying again at the very end would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
