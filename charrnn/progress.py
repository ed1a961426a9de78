"""What a training says on a terminal, or line by line where there is none; how it is stopped."""

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from tqdm import tqdm

from charrnn.config import AS_DRAWN
from charrnn.evaluation import Loss
from charrnn.generator import Generator
from charrnn.training import Listener, Run
from charrnn.weights import FrozenModel

QUIET_SECONDS = 2.0  # of reading, before anything is said of it
SAMPLE_LOOKS = 10  # samples are shown at every tenth look at the validation set


class Reporter(Listener):
    """Progress on stderr: step, losses, speed, time left, and a few samples now and then."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._validation = float("nan")
        self._looks = self._characters = 0
        self._seconds, self._unit = 0.0, "character"
        self._read: tuple[str, int, float] = ("", 0, time.monotonic())

    def reading(self, what: str, done: int, total: int) -> None:
        """Only what takes its time is told of: a line at each tenth, or a bar."""
        before, tenth, begun = self._read
        if what != before:
            self._end_bar()
            self._read = before, tenth, begun = what, 0, time.monotonic()
        if time.monotonic() - begun < QUIET_SECONDS and not self._bar:
            return
        share = done / max(1, total)
        if _is_terminal():
            if self._bar is None:
                self._bar = _new_bar(initial=share)
                self._bar.set_description_str(f"{what} {size(total)} of data", refresh=False)
            self._bar.update(share - self._bar.n)
        elif int(10 * share) > tenth:
            self._read = what, int(10 * share), begun
            click.echo(f"{what} the data: {share:.0%} of {size(total)}", err=True)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def started(self, run: Run) -> None:
        self._end_bar()
        config, p = run.model_config, run.progress
        recurrent = config.recurrent_dropout
        self._unit = run.corpus.vocabulary.unit
        click.echo(
            f"{config.cell} {config.hidden_size} x {config.num_layers}, "
            f"{run.params.flat.size:,} parameters; dropout {config.dropout:g}"
            + (f", of recurrent weights {recurrent:g}" if recurrent else ""),
            err=True,
        )
        if p.step:
            click.echo(f"going on from the checkpoint at step {p.step:,}", err=True)
        seconds, memory = run.estimated_seconds(), run.estimated_memory()
        takes = duration(seconds) + (f", and {size(memory)} of memory" if memory else "")
        click.echo(f"this will take about {takes}", err=True)
        self._seconds = p.seconds
        if _is_terminal():
            self._bar = _new_bar(initial=run.fraction_done)

    def stepped(self, run: Run, characters: int) -> None:
        self._characters += characters
        if self._bar is not None:
            self._bar.set_description_str(self._line(run), refresh=False)
            self._bar.update(run.fraction_done - self._bar.n)

    def evaluated(self, run: Run, validation: Loss) -> None:
        self._validation = validation.nats_per_character
        self._looks += 1
        if self._bar is None:
            done = max(run.fraction_done, 1e-9)
            left = run.progress.seconds * (1 - done) / done
            click.echo(f"{self._line(run)}, {duration(left)} left", err=True)
        if self._looks % SAMPLE_LOOKS == 0:
            self._say(f"  {'   '.join(samples_of(run))}")

    def ended(self) -> None:
        self._end_bar()

    def _line(self, run: Run) -> str:
        p = run.progress
        of = f"/{p.steps:,}" if p.steps else ""
        speed = self._characters / max(p.seconds - self._seconds, 1e-9)
        return (
            f"step {p.step:,}{of}, loss {p.training_loss:.3f}, validation {self._validation:.4f}, "
            f"{speed:,.0f} {self._unit}s/s"
        )

    def _say(self, text: str) -> None:
        if self._bar is None:
            click.echo(text, err=True)
        else:
            self._bar.write(text, file=sys.stderr)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _new_bar(initial: float) -> "tqdm[Any]":
    return tqdm(
        total=1.0,
        initial=initial,
        bar_format="{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]",
        file=sys.stderr,
        ncols=shutil.get_terminal_size().columns,
    )


def samples_of(run: Run) -> list[str]:
    """Three samples of the network as it is now, each on one line."""
    corpus, network = run.corpus, run.averaged()
    frozen = FrozenModel(
        corpus.kind, network.config, network.params, corpus.vocabulary, corpus.names
    )
    length = 60 if corpus.vocabulary.end is None else None
    generator = Generator("sample", "", frozen)
    samples = generator.generate(
        count=3,
        max_length=length,
        random_seed=run.progress.step,
        **AS_DRAWN | {"clean": True},
    )
    return [sample.text.replace("\n", "⏎") for sample in samples]


def duration(seconds: float) -> str:
    """A duration as people say it: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """A number of bytes as people say it: 210 MB, 1.4 GB."""
    megabytes = count / 1e6
    return f"{megabytes:.0f} MB" if megabytes < 995 else f"{megabytes / 1000:.1f} GB"


@contextmanager
def stoppable(*more: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and a polite kill stop the run after its step; a second Ctrl-C stops it at once. So do
    the signals `more`.
    """
    asked: list[int] = []

    def ask(signum: int, _: FrameType | None) -> None:
        asked.append(signum)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM, *more)}
    try:
        yield lambda: bool(asked)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def reporting(quiet: bool) -> Iterator[Listener]:
    """What a run says while it runs: a bar on a terminal, else a line at each look."""
    library, handler = logging.getLogger("charrnn"), logging.StreamHandler(sys.stderr)
    library.setLevel(logging.WARNING if quiet else logging.INFO)
    library.addHandler(handler)
    reporter = Listener() if quiet else Reporter()
    try:
        yield reporter
    finally:
        reporter.ended()
        library.removeHandler(handler)
