"""What a training came to: for the history, for machines as JSON, and as a page for people."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from charrnn.checkpoint import METRICS
from charrnn.conditions import Names
from charrnn.config import AS_DRAWN
from charrnn.corpus import Corpus
from charrnn.files import read_json_lines, write_atomically
from charrnn.gate import Verdict
from charrnn.generator import Generator
from charrnn.report import Report, page
from charrnn.training import Trained
from charrnn.weights import FrozenModel

log = logging.getLogger(__name__)

Event = Literal["promoted", "unchanged", "refused"]
TEMPERATURES = (0.5, 1.0, 1.5)
SAMPLES, SAMPLE_LENGTH = 20, 300  # texts at each temperature; characters of running text


@dataclass(frozen=True)
class Changes:
    """What came to a list of names, and what went, since a version learned from it."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @classmethod
    def since(cls, before: FrozenModel | None, corpus: Corpus) -> "Changes":
        """None was there before the first version; running text isn't kept to compare with."""
        if before is None:
            return cls()
        old, new = before.vocabulary, corpus.vocabulary
        if old.case == new.case:  # what is written alike is read alike
            olds, news = Names(before.names).all, Names(corpus.names).all
            return cls(
                tuple(new.write(name) for name in corpus.names if name not in olds),
                tuple(old.write(name) for name in before.names if name not in news),
            )
        written = [old.write(name) for name in before.names]
        rewritten = [new.write(name) for name in corpus.names]
        olds, news = frozenset(written), frozenset(rewritten)
        return cls(
            tuple(name for name in rewritten if name not in olds),
            tuple(name for name in written if name not in news),
        )


@dataclass(frozen=True)
class Outcome:
    """What a training came to. `version` is the one that was trained, or, where there was nothing
    to do, the one that is live. `trained` and `verdict` are None where nothing was trained or
    compared.
    """

    name: str
    version: str
    event: Event
    reason: str
    previous: str | None = None
    trained: Trained | None = None
    verdict: Verdict | None = None
    anyway: bool = False
    data_sha256: str | None = None
    warm_start: str | None = None
    changes: Changes = Changes()
    seconds: Mapping[str, float] = field(default_factory=dict)
    report: Path | None = None
    deleted: Sequence[str] = ()

    @property
    def promoted(self) -> bool:
        """Whether the version went live."""
        return self.event == "promoted"

    @property
    def live_loss(self) -> float | None:
        """The loss of the version that was live, on what the candidate was compared on."""
        live = self.verdict.live if self.verdict else None
        return live.loss if live else None

    def details(self) -> dict[str, Any]:
        """What the history keeps beside the version, its scores and the reason."""
        return {
            "data_sha256": self.data_sha256,
            "added": len(self.changes.added),
            "removed": len(self.changes.removed),
            "seconds": round(self.seconds.get("all", 0.0), 2),
            **({"gate": self.verdict.to_json()} if self.verdict else {}),
            **({"anyway": True} if self.anyway else {}),
            **({"warm_start": self.warm_start} if self.warm_start else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """For machines: on stdout with --json, and on the stdin of the hook."""
        model = self.trained.model if self.trained else None
        return {
            "model": self.name,
            "outcome": self.event,
            "version": self.version,
            "previous": self.previous,
            "reason": self.reason,
            "anyway": self.anyway,
            "evaluation": dict(model.evaluation) if model else None,
            "gate": self.verdict.to_json() if self.verdict else None,
            "data_sha256": self.data_sha256,
            "warm_start": self.warm_start,
            "added": list(self.changes.added),
            "removed": list(self.changes.removed),
            "seconds": {what: round(s, 3) for what, s in self.seconds.items()},
            "report": str(self.report) if self.report else None,
            "deleted": list(self.deleted),
        }


def write_report(outcome: Outcome, path: Path, run_folder: Path) -> Path | None:
    """Write the page of a run. A disk that has no room for it doesn't undo the run: None then."""
    assert outcome.trained, "nothing was trained"
    report = Report(
        outcome.to_json(),
        read_json_lines(run_folder / METRICS),
        _samples(outcome.trained.model),
        outcome.changes.added,
        outcome.changes.removed,
    )
    try:
        write_atomically(path, page(report).encode("utf-8", "replace"))
    except OSError as error:
        log.warning("the report %s could not be written (%s)", path, error.strerror)
        return None
    return path


def _samples(model: FrozenModel) -> dict[float, list[str]]:
    generator = Generator("report", "", model)
    length = None if model.vocabulary.end is not None else SAMPLE_LENGTH
    return {
        t: [
            sample.text
            for sample in generator.generate(
                count=SAMPLES,
                temperature=t,
                max_length=length,
                random_seed=0,
                **AS_DRAWN | {"clean": True},
            )
        ]
        for t in TEMPERATURES
    }
