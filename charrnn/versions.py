"""Which of the kept versions is live: one at a time changes it, goes back, and clears away.

What a weights folder holds is the store's business; what deserves to go live, the gate's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charrnn.errors import (
    LockedError,
    PromotionError,
    WeightsCorruptError,
    WeightsError,
)
from charrnn.files import sweep, write_atomically
from charrnn.store import ROLLED_BACK, SHORT_VERSION, Current, Store

RUN_FOLDER = "run"
REPORTS = "reports"
CANDIDATE = "candidate"


@contextmanager
def alone(store: Store, name: str) -> Iterator[Path]:
    """Hold the model's lock; the system lets go of it when the process ends, however it ends.

    What a process that was killed left is mended and swept first. Yields the run's folder.
    """
    run_folder = store.folder(name) / RUN_FOLDER
    run_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"model {name!r} is being trained by another process, or its versions are being "
            f"changed (lock {run_folder / 'lock'}); wait for it to end"
        ) from None
    try:
        for folder in (store.folder(name), run_folder, run_folder / REPORTS):
            sweep(folder)
        store.mend(name)
        _drop_candidate(store, name)
        yield run_folder
    finally:
        lock.release()


def announce_candidate(store: Store, name: str, version: str) -> None:
    """Say that a version is about to be added, so that it doesn't stay for good if that is all
    that a process that is killed gets done. `settle_candidate` when it is written down.
    """
    if version not in store.versions(name):
        write_atomically(store.folder(name) / RUN_FOLDER / CANDIDATE, version.encode())


def settle_candidate(store: Store, name: str) -> None:
    """The candidate's fate is in the history."""
    (store.folder(name) / RUN_FOLDER / CANDIDATE).unlink(missing_ok=True)


def _drop_candidate(store: Store, name: str) -> None:
    path = store.folder(name) / RUN_FOLDER / CANDIDATE
    if not path.is_file():
        return
    version = path.read_text("utf-8")
    known = {line.get("version") for line in store.history(name)}
    if version in store.versions(name) and version not in known | {store.live(name)}:
        store.remove(name, version)
    settle_candidate(store, name)


def promote(name: str, version: str, store: Store) -> Current:
    """Make a kept version live because the operator says so. Raises PromotionError where it is
    live already, LockedError, WeightsError's children.
    """
    with _changing(store, name):
        full = store.resolve(name, version)
        _refuse_live(store, name, full)
        return store.promote(name, full, reason="by hand", recipe=recipe_of(store, name))


def rollback(name: str, store: Store, to: str | None = None) -> Current:
    """Make the version live that was live before the present one, or a kept one by its digits.

    Going back twice goes back further. Raises as `promote`, and PromotionError where there is
    nothing to go back to.
    """
    with _changing(store, name):
        full = _before(store, name) if to is None else store.resolve(name, to)
        _refuse_live(store, name, full)
        live = store.live(name)
        reason = f"from {live[:SHORT_VERSION] if live else 'a damaged record'}"
        return store.promote(
            name, full, reason=reason, recipe=recipe_of(store, name), event=ROLLED_BACK
        )


def prune(name: str, store: Store, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions. Returns those deleted.

    Whatever `keep` says, the live version stays, and so do those that ship with the program, the
    one that a rollback would bring, and the best, which the gate measures by.
    """
    assert keep >= 1, keep
    with _changing(store, name):
        store.current(name)  # where it can't be told what is live, nothing is deleted
        return prune_locked(name, store, keep)


def prune_locked(name: str, store: Store, keep: int) -> list[str]:
    """`prune`, where the caller holds the lock and knows what is live."""
    newest = list(dict.fromkeys(line.get("version") for line in reversed(store.history(name))))
    kept = [version for version in newest if version in store.versions(name)][:keep]
    spared = {*kept, store.live(name), best_known(store, name), *store.shipped_versions(name)}
    spared |= set(store.ways_back(name)[:1])
    deleted = [version for version in store.versions(name) if version not in spared]
    for version in deleted:
        store.remove(name, version)
        report_path(store, name, version).unlink(missing_ok=True)
    return deleted


def report_path(store: Store, name: str, version: str) -> Path:
    """Where the report of the run that made a version is."""
    return store.folder(name) / RUN_FOLDER / REPORTS / f"{version[:SHORT_VERSION]}.html"


def recipe_of(store: Store, name: str) -> str | None:
    """The recipe of the live version; where its record is damaged, as the history has it."""
    try:
        return store.current(name).recipe
    except WeightsCorruptError:
        recipes = [line.get("recipe") for line in store.history(name)]
        return next((recipe for recipe in reversed(recipes) if recipe), None)


def best_known(store: Store, name: str) -> str | None:
    """The version that the gate last found best."""
    for line in reversed(store.history(name)):
        if isinstance(line.get("gate"), dict):
            best: str | None = line["gate"].get("best")
            return best
    return None


@contextmanager
def _changing(store: Store, name: str) -> Iterator[None]:
    """The lock, for a model that is there."""
    store.fill(name)
    if not store.versions(name):
        store.current(name)  # raises, and says which models there are
    with alone(store, name):
        yield


def _refuse_live(store: Store, name: str, version: str) -> None:
    if version == store.live(name):
        raise PromotionError(
            f"version {version[:SHORT_VERSION]} of model {name!r} is live already; "
            f"`python -m charrnn history {name}` lists the others"
        )


def _before(store: Store, name: str) -> str:
    """The version to go back to: the latest that was live before, and is whole."""
    damaged = []
    for version in store.ways_back(name):
        try:
            return store.load(name, version)[1]
        except WeightsError:
            damaged.append(version[:SHORT_VERSION])
    why = f" (those before are damaged: {', '.join(damaged)})" if damaged else ""
    kept = ", ".join(version[:SHORT_VERSION] for version in store.versions(name))
    raise PromotionError(
        f"model {name!r} has no version before the live one that is kept{why}; name one of those "
        f"kept with --to: {kept}"
    )
