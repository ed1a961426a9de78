"""What a run keeps on the disk while it runs: its checkpoint, and a line for each look.

A disk that is full doesn't end a run: the checkpoint before stays, and the next one may succeed.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charrnn.errors import WeightsError
from charrnn.files import append_line, read_json_lines, write_atomically
from charrnn.parameters import Array
from charrnn.weights import pack_arrays, unpack_arrays

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
PUT_ASIDE = f"previous-{CHECKPOINT}"
METRICS = "metrics.jsonl"


@dataclass
class Progress:
    """Where a run stands: the numbers of a checkpoint. `closing` are the seconds of a budget in
    minutes that are kept for the last look and the evaluation.
    """

    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    closing: float = 0.0
    training_loss: float = math.nan
    best_loss: float = math.inf
    best_step: int = 0
    last_loss: float = math.inf
    looks_without_gain: int = 0
    rate_factor: float = 1.0


class RunFiles:
    """The checkpoint and the metrics in a folder; None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def save(self, fingerprint: str, progress: Progress, arrays: Mapping[str, Array]) -> None:
        """Write a checkpoint. `fingerprint` is what the run that goes on from it must share."""
        if self.folder is None:
            return
        metadata = {"fingerprint": fingerprint, "progress": encoded(progress)}
        with _going_on("the checkpoint"):
            write_atomically(self.folder / CHECKPOINT, pack_arrays(arrays, metadata))

    def load(self, fingerprint: str) -> tuple[Progress, dict[str, Array]] | None:
        """The checkpoint of a stopped run with this fingerprint, the last one or the one put aside,
        which is the last one then.

        A last one that can't be gone on from, damaged or of other settings or data, is put aside.
        """
        if self.folder is None:
            return None
        last, aside = self.folder / CHECKPOINT, self.folder / PUT_ASIDE
        other = aside.with_suffix(".other")  # on its way from one place to the other
        for place in (last, aside):
            if other.is_file() and not place.is_file():  # killed meanwhile
                other.replace(place)
        if found := _read(last, fingerprint):
            return found
        found = _read(aside, fingerprint)
        if last.is_file():
            what = "this run goes on from the one put aside" if found else "this run begins anew"
            if found:
                aside.replace(other)
            elif aside.is_file():
                what += "; the one that had been put aside before is gone"
            last.replace(aside)
            if found:
                other.replace(last)
            log.warning(
                "the checkpoint there is damaged, or of other settings, data or libraries: it is "
                "put aside as %s, and %s",
                aside.name,
                what,
            )
        elif found:
            aside.replace(last)
        return found

    def record(self, values: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        if self.folder is not None:
            with _going_on("the metrics"):
                append_line(self.folder / METRICS, json.dumps(values))

    def drop_records_after(self, step: int) -> None:
        """Drop the lines that were written after a checkpoint: they will be written again."""
        if self.folder is None:
            return
        path = self.folder / METRICS
        kept = [record for record in read_json_lines(path) if record.get("step", 0) <= step]
        with _going_on("the metrics"):
            write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def clear_run(self, fingerprint: str) -> None:
        """Remove the checkpoint of a run that was killed after its version was written down."""
        if self.folder is not None and _read(self.folder / CHECKPOINT, fingerprint):
            self.clear()

    def clear(self) -> None:
        """Remove the checkpoint of a run whose version is kept; what it put aside is another's."""
        if self.folder is not None:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("%s could not be written (%s); training goes on", what, error.strerror)


def _read(path: Path, fingerprint: str) -> tuple[Progress, dict[str, Array]] | None:
    """A checkpoint, if it is whole and has the fingerprint."""
    try:
        arrays, metadata = unpack_arrays(path.read_bytes(), str(path))
    except (OSError, WeightsError):
        return None
    if metadata.get("fingerprint") != fingerprint:
        return None
    return decoded(metadata["progress"]), arrays


def encoded(progress: Progress) -> dict[str, Any]:
    """As JSON: it has no infinity and no NaN; float.hex keeps every bit of the others too."""
    return {k: v.hex() if isinstance(v, float) else v for k, v in asdict(progress).items()}


def decoded(values: dict[str, Any]) -> Progress:
    """Back from `encoded`."""
    progress = Progress()
    for name, value in values.items():
        setattr(progress, name, float.fromhex(value) if isinstance(value, str) else value)
    return progress
