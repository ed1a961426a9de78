"""The models that are loaded: the live version of each, and a few old ones that were asked for.

A request takes what is loaded and never waits for a new version: `refresh` looks at the weights
folder, tries what is new, and only then puts it in the place of what is served. The watcher
(`api.watching`) calls it a few times a second.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import charrnn
from api.errors import RequestError, StartError
from charrnn.config import AS_DRAWN
from charrnn.errors import WeightsError, WeightsMissingError, shown

RETRY_SECONDS = 5.0  # until a version that could not be loaded is tried again
OLD_VERSIONS_KEPT = 4
SHOWN_DIGITS = 12
PREFERRED = "dinosaurs"  # the default where it is there and the operator named no other
MOST_EVENTS = 50  # of a model's history, the last ones
WHAT_TO_DO = (
    "train one with `python -m charrnn train my-list.txt`, or set CHARRNN_WEIGHTS to a folder "
    "that has one"
)

log = logging.getLogger(__name__)

Stamp = tuple[int, ...]  # of a file: another one after each promotion


class Refused(NamedTuple):
    """A live version that could not be loaded: what was looked at, when to try again, and why."""

    stamp: Stamp
    retry_at: float
    reason: str


class Models:
    """Generators by model and version. Raises StartError where there is nothing to serve."""

    def __init__(
        self,
        store: charrnn.Store,
        default: str | None = None,
        on_reload: Callable[[str, bool], None] = lambda model, ok: None,
        blocklist: charrnn.Blocklist | None = None,
    ) -> None:
        """blocklist: what no text may have; None for the library's own."""
        self._store = store
        self._wanted = default
        self._blocklist = blocklist or charrnn.Blocklist.shipped()
        self._on_reload = on_reload
        self._refreshing = threading.Lock()  # held by who looks for new versions; nobody waits
        self._loading_old = threading.Lock()  # one at a time, and nobody else waits for it
        self._keeping = threading.Lock()  # over what is kept
        self._stamps: dict[str, Stamp] = {}
        self._refused: dict[str, Refused] = {}
        self._tried: set[Hashable] = set()  # shapes of networks
        self._complaint = ""  # what was last logged about the folder as a whole
        self._told: dict[str, tuple[Stamp, list[dict[str, Any]]]] = {}  # histories
        self._unseen: set[str] = set()  # models of which it was logged that they can't be looked at
        self._old: OrderedDict[tuple[str, str], charrnn.Generator] = OrderedDict()
        # Replaced as a whole, never changed: whoever has it can go through it without a lock.
        self._live: Mapping[str, charrnn.Generator] = self._load_all()
        _check_default(default, list(self._live), store)

    @property
    def default(self) -> str:
        """The model of a request that names none; "" while there is none at all."""
        live = self._live
        return self._wanted or (PREFERRED if PREFERRED in live else min(live, default=""))

    def live(self) -> Mapping[str, charrnn.Generator]:
        """The live generator of each model, by its name."""
        return self._live

    def get(self, name: str | None = None, version: str | None = None) -> charrnn.Generator:
        """The generator of a model and version, by default the live one of the default model.

        Raises RequestError 404 where there is none, 410 where its file is damaged.
        """
        name = self.default if name is None else name
        live = self._live.get(name)
        if live is None:
            known = ", ".join(self._live) or "none at the moment"
            raise RequestError(404, f"there is no model {shown(name)}; the known ones are {known}")
        if version is None or version == live.version:
            return live
        return self._kept_version(live, version)

    def card(self, generator: charrnn.Generator) -> dict[str, Any]:
        """A generator's card, and when it went live: null where the folder has another by now."""
        promoted_at = None
        try:
            current = self._store.current(generator.name)
            if current.version.startswith(generator.version):
                promoted_at = current.promoted_at
        except (WeightsError, OSError):
            pass  # what is loaded goes on
        return {**generator.card(), "promoted_at": promoted_at}

    def history(self, name: str) -> list[dict[str, Any]]:
        """The last events of a model that is served, oldest first; the file is read where it has
        changed. Paths and settings of the operator's are not in them.
        """
        path = self._store.folder(name) / "history.jsonl"
        try:
            found = path.stat()
            stamp = _stamp(found)
            known = self._told.get(name)
            if known is None or known[0] != stamp:
                lines = self._store.history(name)[-MOST_EVENTS:]
                known = self._told[name] = stamp, [_event(line) for line in lines]
        except OSError:
            return []
        return known[1]

    def refresh(self) -> None:
        """Look at the weights folder, and serve what is live in it by now.

        Whatever is wrong with a new version, the one that is served goes on. Returns at once where
        another thread is at it.
        """
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            self._refresh()
        finally:
            self._refreshing.release()

    def _refresh(self) -> None:
        try:
            stamps = self._look()
        except OSError as error:  # a folder that isn't there just now is no wish to serve nothing
            if self._complaint != str(error):
                log.warning("the weights folder can't be read, what is loaded goes on: %s", error)
            self._complaint = str(error)
            return
        self._complaint = ""
        for name in [name for name in self._live if name not in stamps]:
            self._remove(name)
        self._refused = {name: each for name, each in self._refused.items() if name in stamps}
        for name, stamp in stamps.items():
            if self._stamps.get(name) != stamp and self._may_try(name, stamp):
                self._try(name, stamp)

    def _look(self) -> dict[str, Stamp]:
        """A stamp of each model's CURRENT.json; of one that can't be looked at the last one, if it
        is loaded. Raises OSError where the whole folder can't be.
        """
        stamps, unseen = {}, set()
        self._store.root.stat()  # which tells a folder that is gone from an empty one
        for name in self._store.models():
            try:
                found = (self._store.folder(name) / "CURRENT.json").stat()
            except FileNotFoundError:
                continue  # removed this very moment
            except OSError as error:
                unseen.add(name)
                if name not in self._unseen:
                    log.warning("model %s can't be looked at: %s", name, error)
                if name in self._stamps:
                    stamps[name] = self._stamps[name]
                continue
            stamps[name] = _stamp(found)
        self._unseen = unseen
        return stamps

    def _may_try(self, name: str, stamp: Stamp) -> bool:
        refused = self._refused.get(name)
        return refused is None or refused.stamp != stamp or time.monotonic() >= refused.retry_at

    def _try(self, name: str, stamp: Stamp) -> None:
        """Load what is live on disk, and only then serve it."""
        before, full = self._live.get(name), ""
        try:
            full = self._store.current(name).version
            if before is None or not full.startswith(before.version):
                new = _load(name, self._store, full, blocklist=self._blocklist)
                self._serve(new)
                self._on_reload(name, True)
                self._warn_unless_exact(new)
        except Exception as error:  # whatever it is, the old one goes on, and so do other models
            later = self._before(name, before) if full or before is None else None
            if later is not None:
                self._serve(later)
            self._refuse(name, stamp, error, later or before)
        else:
            self._stamps[name] = stamp
            self._refused.pop(name, None)

    def _refuse(
        self, name: str, stamp: Stamp, error: Exception, served: charrnn.Generator | None
    ) -> None:
        """Note that what is live on disk can't be loaded, and say so once."""
        refused = self._refused.get(name)
        if refused is None or (refused.stamp, refused.reason) != (stamp, str(error)):
            is_left = f"stays at {served.version}" if served else "is left out"
            log.warning("model %s %s: %s", name, is_left, error)
            self._on_reload(name, False)
        self._refused[name] = Refused(stamp, time.monotonic() + RETRY_SECONDS, str(error))

    def _before(self, name: str, loaded: charrnn.Generator | None) -> charrnn.Generator | None:
        """The version that was live before the one that can't be loaded; None where that is
        `loaded`, or there is none. What is loaded may be older still: in a worker that took a dead
        one's place, it is that of the service's start.
        """
        try:
            ways = self._store.ways_back(name)
        except (WeightsError, OSError):
            return None
        for full in ways:
            if loaded is not None and full.startswith(loaded.version):
                return None
            with suppress(Exception):  # whatever it is, one that is older may do
                return _load(name, self._store, full, blocklist=self._blocklist)
        return None

    def _serve(self, generator: charrnn.Generator) -> None:
        before = self._live.get(generator.name)
        if before is not None:  # who names it by its version still finds it
            self._keep(before)
        live = {**self._live, generator.name: generator}
        self._live = dict(sorted(live.items()))
        log.info("model %s: version %s is live", generator.name, generator.version)

    def _remove(self, name: str) -> None:
        self._live = {other: each for other, each in self._live.items() if other != name}
        self._stamps.pop(name, None)
        self._told.pop(name, None)
        with self._keeping:
            for key in [key for key in self._old if key[0] == name]:
                del self._old[key]
        log.info("model %s is gone, and no longer served", name)

    def _kept_version(self, live: charrnn.Generator, version: str) -> charrnn.Generator:
        name = live.name
        try:
            full = self._store.resolve(name, version)
            if full.startswith(live.version):
                return live
            key = name, full[:SHOWN_DIGITS]
            kept = self._kept(key)
            if kept is None:
                with self._loading_old:
                    kept = self._kept(key)  # by whoever was at it
                    if kept is None:
                        kept = _load(name, self._store, full, blocklist=self._blocklist)
                        self._warn_unless_exact(kept)
                        self._keep(kept)
            return kept
        except WeightsMissingError:
            loaded = self._loaded(live, version)
            if loaded and (loaded is live or not self._store.root.is_dir()):
                return loaded
            every = ", ".join(each[:SHOWN_DIGITS] for each in self._store.versions(name))
            none = f"model {name} has no version {shown(version)}, or several"
            raise RequestError(404, f"{none}; those kept are {every}") from None
        except WeightsError as error:
            log.error("model %s, version %s: %s", name, version, error)
            raise RequestError(
                410, f"version {version} of model {name} is damaged and can't be served"
            ) from None

    def _loaded(self, live: charrnn.Generator, version: str) -> charrnn.Generator | None:
        """The only version of a model in memory that a request can mean."""
        with self._keeping:
            old = [each for (name, _), each in self._old.items() if name == live.name]
        meant = version[:SHOWN_DIGITS].lower()
        found = [each for each in (live, *old) if each.version.startswith(meant)]
        return found[0] if len(found) == 1 else None

    def _kept(self, key: tuple[str, str]) -> charrnn.Generator | None:
        """An old version that is in memory, which counts as used."""
        with self._keeping:
            if key in self._old:
                self._old.move_to_end(key)
            return self._old.get(key)

    def _keep(self, generator: charrnn.Generator) -> None:
        """Keep an old version; the one that was unused for longest goes."""
        with self._keeping:
            self._old[generator.name, generator.version] = generator
            self._old.move_to_end((generator.name, generator.version))
            while len(self._old) > OLD_VERSIONS_KEPT:
                self._old.popitem(last=False)

    def _warn_unless_exact(self, generator: charrnn.Generator) -> None:
        """Try the promise that the same seed gives the same bytes under any load.

        It is a matter of shapes and of this machine's kernels, so one network of a shape is enough:
        for a large one this takes longer than all the rest of loading.
        """
        shape = generator.model.config
        if shape in self._tried:
            return
        self._tried.add(shape)
        # Two steps try every product with a state that isn't zero; more take as long again.
        if not charrnn.rows_are_exact(generator.compiled, steps=2):
            log.warning(
                "model %s: matrix products of %s round a row by what shares its batch, so a "
                "random_seed may give another text under load",
                generator.name,
                charrnn.blas_kernel(),
            )

    def _load_all(self) -> dict[str, charrnn.Generator]:
        """The live version of every model that can be loaded. Raises StartError where none can."""
        loaded, broken = {}, []
        store = self._store
        if store.root.exists() and not store.root.is_dir():
            raise StartError(f"{store.root} is not a folder; {WHAT_TO_DO}")
        try:
            stamps = self._look() if store.root.exists() else {}
        except OSError as error:
            raise StartError(
                f"{store.root} can't be read: {error.strerror}; {WHAT_TO_DO}"
            ) from None
        for name, stamp in stamps.items():
            try:
                loaded[name] = _load(name, store, blocklist=self._blocklist)
                self._warn_unless_exact(loaded[name])
                self._stamps[name] = stamp
            except WeightsError as error:
                before = self._before(name, None)
                self._refuse(name, stamp, error, before)
                if before is None:
                    broken.append(f"{name}: {error}")
                else:
                    loaded[name] = before
                    self._warn_unless_exact(before)
        if not loaded:
            found = f"no model in {store.root} can be loaded ({'; '.join(broken)})"
            nothing = f"there is no trained model in {store.root}"
            raise StartError(f"{found if broken else nothing}; {WHAT_TO_DO}")
        return loaded


def _stamp(found: os.stat_result) -> Stamp:
    """Of what a file has; the time of its inode's last change can't be set back."""
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _event(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a history, as anybody may know it."""
    evaluation = line.get("evaluation")
    losses = evaluation if isinstance(evaluation, dict) else {}
    sides = {side: losses.get(side) for side in ("validation", "test")}
    return {
        **{key: str(line.get(key) or "") for key in ("event", "at", "reason")},
        "version": str(line.get("version") or "")[:SHOWN_DIGITS],
        **{
            side: loss.get("nats_per_character") if isinstance(loss, dict) else None
            for side, loss in sides.items()
        },
    }


def _load(
    name: str,
    store: charrnn.Store,
    version: str | None = None,
    *,
    blocklist: charrnn.Blocklist,
) -> charrnn.Generator:
    """A generator that is ready: what is worked out at the first use is worked out here, by
    whoever loads, not by a request. Raises WeightsError.
    """
    generator = charrnn.load(name, version=version, weights=store)
    generator.check()
    generator.generate(count=2, max_length=1, random_seed=0, **AS_DRAWN)
    log.debug("model %s: %d texts, and more, share products", name, generator.many)
    generator.blocklist = blocklist
    return generator


def _check_default(wanted: str | None, names: list[str], store: charrnn.Store) -> None:
    if wanted is not None and wanted not in names:
        raise StartError(
            f"CHARRNN_MODEL is {shown(wanted)}, and {store.root} has no such model that can be "
            f"loaded; the known ones are {', '.join(names)}"
        )
