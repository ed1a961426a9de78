"""The gate: whether a candidate deserves to go live.

Its loss is held against that of every kept version, evaluated afresh on today's held-out data: if
it were held against last night's alone, small losses would add up. Its samples must be sane.
"""

import math
import re
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from charrnn.conditions import Names
from charrnn.config import AS_DRAWN, CorpusConfig, GateConfig
from charrnn.corpus import Corpus
from charrnn.errors import ConfigError, WeightsError
from charrnn.evaluation import evaluate
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.splits import split
from charrnn.store import SHORT_VERSION, Store
from charrnn.threads import blas_threads
from charrnn.weights import FrozenModel

REFUSED = "refused"
SAMPLE_SEED = 0  # the same for all, so that a verdict can be had again
ENOUGH_TO_COMPARE = 0.5  # of today's held-out data; the live version is compared on less, too
REPEATING = re.compile(r"(.{1,4}?)\1{4,}", re.DOTALL)  # one to four characters, five times running


@dataclass(frozen=True)
class Rival:
    """A kept version against the candidate, on what both can read of today's held-out data, and
    the version has not learned from.
    """

    version: str
    live: bool
    loss: float
    candidate_loss: float
    sequences: int
    left_out: int

    @property
    def behind(self) -> float:
        """Nats per character by which the candidate is worse."""
        return self.candidate_loss - self.loss


@dataclass(frozen=True)
class Sanity:
    """Shares of the texts that a network writes; novel is None for running text."""

    samples: int
    empty: float
    repeating: float
    duplicates: float
    novel: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, why, and the figures."""

    passed: bool
    reason: str
    loss: float
    rivals: tuple[Rival, ...]
    sanity: Sanity
    live_sanity: Sanity | None
    live_is_whole: bool
    tolerance: float
    version: str

    @property
    def live(self) -> Rival | None:
        """The live version, where it could be compared."""
        return next((rival for rival in self.rivals if rival.live), None)

    @property
    def best(self) -> str:
        """The best version now kept, the candidate included."""
        rival = max(self.rivals, key=lambda rival: rival.behind, default=None)
        return rival.version if rival and rival.behind > 0 else self.version

    def to_json(self) -> dict[str, Any]:
        """As the history keeps it."""
        live = self.live
        best = max(self.rivals, key=lambda rival: rival.behind, default=None)
        return {
            "passed": self.passed,
            "tolerance": self.tolerance,
            "best": self.best,
            "loss": self.loss,
            "live": asdict(live) if live else None,
            "strongest": asdict(best) if best else None,
            "compared": len(self.rivals),
            "sanity": asdict(self.sanity),
            "live_sanity": asdict(self.live_sanity) if self.live_sanity else None,
        }


def judge(
    store: Store, name: str, version: str, model: FrozenModel, corpus: Corpus, config: GateConfig
) -> Verdict:
    """Hold a candidate against every kept version, and look at what it writes."""
    held_out = corpus.sequences["validation"]
    with blas_threads(1):
        loss = _loss(model, held_out)
        sanity = sanity_of(model, config.samples)
        live, whole = _live(store, name)
        rivals = _rivals(store, name, version, live, model, corpus)
        try:
            live_sanity = sanity_of(store.load(name, live)[0], config.samples) if whole else None
        except WeightsError:
            live_sanity = None
    problems = _problems(loss, sanity, config)
    if whole and live != version and not any(rival.live for rival in rivals):
        problems.append(
            "the live version can read nothing of today's held-out data that it hasn't learned from"
        )
    strongest = max(rivals, key=lambda rival: rival.behind, default=None)
    if strongest and not strongest.behind <= config.tolerance:
        problems.append(_compared(strongest, config.tolerance))
    reason = "; ".join(problems)
    if not problems:
        why = "" if whole else "the live version is missing or damaged; "
        compared = _compared(strongest, config.tolerance) if strongest else "nothing to compare"
        reason = why + compared
    return Verdict(
        not problems,
        reason,
        loss,
        tuple(rivals),
        sanity,
        live_sanity,
        whole,
        config.tolerance,
        version,
    )


def sanity_of(model: FrozenModel, count: int) -> Sanity:
    """What a network writes by itself, at temperature 1, as shares of `count` texts."""
    candidate = Generator("candidate", "", model)
    samples = candidate.generate(count=count, random_seed=SAMPLE_SEED, **AS_DRAWN)
    texts = [sample.text for sample in samples]
    novel = None
    if model.kind == "names":
        novel = sum(sample.novel is True for sample in samples) / count
    return Sanity(
        samples=count,
        empty=sum(not text.strip() for text in texts) / count,
        repeating=sum(REPEATING.search(text) is not None for text in texts) / count,
        duplicates=1 - len(set(texts)) / count,
        novel=novel,
    )


def best_whole(store: Store, name: str, verdict: Verdict) -> str | None:
    """The kept version that reads best among those that were compared: what can take the place of
    a live one that is damaged.
    """
    rival = max(verdict.rivals, key=lambda rival: rival.behind, default=None)
    return rival.version if rival else None


def _problems(loss: float, sanity: Sanity, config: GateConfig) -> list[str]:
    """What a candidate fails by itself, whatever else is kept."""
    checks = [
        ("texts that are empty", sanity.empty, 0.0, config.most_empty),
        ("texts that repeat themselves", sanity.repeating, 0.0, config.most_repeating),
        ("texts drawn before", sanity.duplicates, 0.0, config.most_duplicates),
    ]
    if sanity.novel is not None:
        bounds = (config.least_novel, config.most_novel)
        checks.append(("names that are not in the list", sanity.novel, *bounds))
    problems = [
        f"{what} must be from {low:.0%} to {high:.0%} of {sanity.samples}, got {share:.1%}"
        for what, share, low, high in checks
        if not low <= share <= high
    ]
    if not math.isfinite(loss):
        problems.insert(0, f"the loss must be finite, got {loss}")
    return problems


def _compared(rival: Rival, tolerance: float) -> str:
    which = (
        "the live version's" if rival.live else f"that of version {rival.version[:SHORT_VERSION]}"
    )
    left_out = f", {rival.left_out} left out that can't be compared" if rival.left_out else ""
    return (
        f"validation loss {rival.candidate_loss:.4f} against {rival.loss:.4f}, {which} "
        f"(tolerance {tolerance:g}{left_out})"
    )


def _live(store: Store, name: str) -> tuple[str | None, bool]:
    """The live version, and whether it can be loaded."""
    try:
        return store.load(name)[1], True
    except WeightsError:
        return None, False


def _rivals(
    store: Store,
    name: str,
    candidate: str,
    live: str | None,
    model: FrozenModel,
    corpus: Corpus,
) -> list[Rival]:
    """Every kept version that was not refused, and can be read and compared."""
    last_event = {line.get("version"): line.get("event") for line in store.history(name)}
    rivals = []
    for version in store.versions(name):
        if version == candidate or last_event.get(version) == REFUSED:
            continue
        try:
            other, _ = store.load(name, version)
        except WeightsError:
            continue
        rival = _rival(version, version == live, other, model, corpus)
        if rival:
            rivals.append(rival)
    return rivals


def _rival(
    version: str, live: bool, other: FrozenModel, model: FrozenModel, corpus: Corpus
) -> Rival | None:
    held_out = corpus.sequences["validation"]
    learned = _learned_by(other)
    ours, theirs = [], []
    for text in held_out:
        as_read = _read_by(other, corpus.vocabulary.write(text))
        if (
            as_read is not None
            and as_read not in learned
            and corpus.vocabulary.reads_alike(text, other.vocabulary, as_read)
        ):
            ours.append(text)
            theirs.append(as_read)
    if len(ours) < (1 if live else ENOUGH_TO_COMPARE * len(held_out)):
        return None
    losses = _loss(other, theirs), _loss(model, ours)
    return Rival(version, live, *losses, len(ours), len(held_out) - len(ours))


def _learned_by(model: FrozenModel) -> Container[str]:
    """The names that a version learned from: another salt or share may have held out others."""
    try:
        config = CorpusConfig.checked(model.provenance["recipe"]["corpus"])
    except (ConfigError, KeyError, TypeError):
        return frozenset()
    return Names(split(model.names, config)["train"] if model.names else ()).all


def _read_by(model: FrozenModel, written: str) -> str | None:
    """A text as a model reads it; None where it can't write it so."""
    text = model.vocabulary.match(written)
    return text if model.vocabulary.write(text) == written else None


def _loss(model: FrozenModel, sequences: Sequence[str]) -> float:
    network = CharRNN(model.config, model.params)
    return evaluate(network, sequences, model.vocabulary, Workspace()).nats_per_character
