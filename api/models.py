"""The models that are loaded: the live version of each, and a few old ones that were asked for.

A version is loaded once and shared by all threads. Which one is live is looked at twice a second.
"""

import logging
import threading
import time
from collections import OrderedDict

import charrnn
from api.errors import RequestError, StartError
from charrnn.errors import ConfigError, WeightsError, WeightsMissingError, shown

RECHECK_SECONDS = 0.5
OLD_VERSIONS_KEPT = 4
SHOWN_DIGITS = 12
PREFERRED = "dinosaurs"  # the default where it is there and the operator named no other
WHAT_TO_DO = (
    "train one with `python -m charrnn train my-list.txt`, or set CHARRNN_WEIGHTS to a folder "
    "that has one"
)

log = logging.getLogger(__name__)


class Models:
    """Generators by model and version. Raises StartError where there is nothing to serve."""

    def __init__(self, store: charrnn.Store, default: str | None = None) -> None:
        self._store = store
        self._lock = threading.Lock()  # held while loading, never while generating
        self._live = _load_all(store)
        self._checked = dict.fromkeys(self._live, time.monotonic())
        self._complaints: dict[str, str] = {}  # model -> what was last logged about it
        self._old: OrderedDict[str, charrnn.Generator] = OrderedDict()  # by full version
        self.default = _choose_default(default, list(self._live), store)

    def live(self) -> dict[str, charrnn.Generator]:
        """The live generator of each model, those that have appeared since the start included."""
        for name in self._store.models():
            self._look_for(name)
        return {name: self.get(name) for name in sorted(self._live)}

    def get(self, name: str | None = None, version: str | None = None) -> charrnn.Generator:
        """The generator of a model and version, by default the live one of the default model.

        Raises RequestError 404 where there is none, 410 where its file is damaged.
        """
        name = self.default if name is None else name
        self._look_for(name)
        if name not in self._live:
            known = ", ".join(sorted(self._live))
            raise RequestError(404, f"there is no model {shown(name)}; the known ones are {known}")
        if time.monotonic() - self._checked[name] > RECHECK_SECONDS:
            self._recheck(name)
        live = self._live[name]
        if version is None or version == live.version:
            return live
        return self._kept_version(name, version)

    def _look_for(self, name: str) -> None:
        """Load a model that isn't loaded, if by now there is one of this name."""
        if name in self._live:
            return
        try:
            self._store.current(name)
            with self._lock:
                now = time.monotonic()
                if now - self._checked.get(name, -RECHECK_SECONDS) < RECHECK_SECONDS:
                    return  # just loaded, or just found broken
                self._checked[name] = now
                if name not in self._live:
                    self._live[name] = _load(name, self._store)
                    log.info("model %s: version %s is live", name, self._live[name].version)
        except (WeightsMissingError, ConfigError):
            return
        except (WeightsError, OSError) as error:
            if self._complaints.get(name) != str(error):
                log.warning("model %s is left out: %s", name, error)
            self._complaints[name] = str(error)

    def _recheck(self, name: str) -> None:
        """Load what became live since. Whatever is wrong with it, the old one goes on."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is loading: the next request looks
        try:
            self._checked[name] = time.monotonic()
            if self._store.live_version(name) != self._live[name].version:
                self._live[name] = _load(name, self._store)
                log.info("model %s: version %s is live", name, self._live[name].version)
            self._complaints.pop(name, None)
        except (WeightsError, OSError) as error:
            if self._complaints.get(name) != str(error):  # once, not twice a second
                log.warning("model %s stays at %s: %s", name, self._live[name].version, error)
            self._complaints[name] = str(error)
        finally:
            self._lock.release()

    def _kept_version(self, name: str, version: str) -> charrnn.Generator:
        try:
            full = self._store.resolve(name, version)
            with self._lock:
                return self._loaded(name, full)
        except WeightsMissingError:
            kept = ", ".join(each[:SHOWN_DIGITS] for each in self._store.versions(name))
            none = f"model {name} has no version {shown(version)}, or several"
            raise RequestError(404, f"{none}; those kept are {kept}") from None
        except WeightsError as error:
            log.error("model %s, version %s: %s", name, version, error)
            raise RequestError(
                410, f"version {version} of model {name} is damaged and can't be served"
            ) from None

    def _loaded(self, name: str, full: str) -> charrnn.Generator:
        """The generator of a version by its full name. The caller holds the lock."""
        if full.startswith(self._live[name].version):
            return self._live[name]
        if full not in self._old:
            self._old[full] = _load(name, self._store, full)
        self._old.move_to_end(full)
        while len(self._old) > OLD_VERSIONS_KEPT:
            self._old.popitem(last=False)
        return self._old[full]


def _load(name: str, store: charrnn.Store, version: str | None = None) -> charrnn.Generator:
    """A generator, tried for the promise that the same seed gives the same bytes under any load.

    Raises WeightsError.
    """
    generator = charrnn.load(name, version=version, weights=store)
    if not charrnn.rows_are_exact(generator.compiled):
        log.warning(
            "model %s: matrix products of %s round a row by what shares its batch, so a "
            "random_seed may give another text under load",
            name,
            charrnn.blas_kernel(),
        )
    return generator


def _load_all(store: charrnn.Store) -> dict[str, charrnn.Generator]:
    """The live version of every model that can be loaded. Raises StartError where none can."""
    loaded, broken = {}, []
    try:
        names = store.models()
    except OSError as error:
        raise StartError(f"{store.root} can't be read: {error.strerror}; {WHAT_TO_DO}") from None
    for name in names:
        try:
            loaded[name] = _load(name, store)
        except WeightsError as error:
            broken.append(f"{name}: {error}")
            log.warning("model %s is left out: %s", name, error)
    if not loaded:
        found = f"no model in {store.root} can be loaded ({'; '.join(broken)})"
        nothing = f"there is no trained model in {store.root}"
        raise StartError(f"{found if broken else nothing}; {WHAT_TO_DO}")
    return loaded


def _choose_default(wanted: str | None, names: list[str], store: charrnn.Store) -> str:
    if wanted is not None and wanted not in names:
        raise StartError(
            f"CHARRNN_MODEL is {shown(wanted)}, and {store.root} has no such model that can be "
            f"loaded; the known ones are {', '.join(names)}"
        )
    return wanted or (PREFERRED if PREFERRED in names else names[0])
