"""From a recipe to a live version: one at a time, and never a worse one for a better one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from charrnn.checkpoint import RunFiles
from charrnn.corpus import Corpus, load_corpus
from charrnn.errors import LockedError, PromotionError, WeightsError
from charrnn.evaluation import evaluate
from charrnn.files import sweep, write_atomically
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.recipe import Recipe, read_recipe, write_recipe
from charrnn.store import SHORT_VERSION, Current, Store
from charrnn.training import Listener, Run, Trained
from charrnn.weights import FrozenModel

RUN_FOLDER = "run"
RECIPE = "recipe.toml"
TOLERANCE = 0.01  # nats per character by which a candidate may be worse: the noise of a retraining


@dataclass(frozen=True)
class Outcome:
    """What a training came to. `live_loss` is that of the version that was live before, on the
    same held-out names; None where there was none that could be compared.
    """

    name: str
    version: str
    promoted: bool
    reason: str
    trained: Trained
    live_loss: float | None


def train(
    recipe: Recipe,
    folder: Path,
    store: Store,
    *,
    recipe_path: Path | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train the first version of a model and promote it.

    Args:
        recipe: what to do; its data files are relative to `folder`.
        recipe_path: where the recipe is kept; None to keep it in the model's folder.

    Raises PromotionError where the name has a live version, LockedError, CorpusError,
    TrainingError, TrainingInterrupted.
    """
    corpus = load_corpus(recipe.paths(folder), recipe.corpus)
    with _alone(store, recipe.name) as run_folder:
        if recipe.name in store.models():
            raise PromotionError(
                f"model {recipe.name!r} already has a live version "
                f"({store.live_version(recipe.name)}): train under another --name, or replace it "
                f"by a better one with `python -m charrnn retrain {recipe.name}`"
            )
        trained = Run(recipe, corpus, run_folder, listener=listener, stop=stop).train()
        version = store.add(recipe.name, trained.data)
        if recipe_path is None:
            recipe_path = store.folder(recipe.name) / RECIPE
            write_atomically(recipe_path, write_recipe(recipe.to_keep(corpus)).encode())
        where = _relative(recipe_path, store.root)
        store.promote(recipe.name, version, reason="first version", recipe=where)
        RunFiles(run_folder).clear()
        return Outcome(recipe.name, version, True, "first version", trained, None)


def retrain(
    name: str,
    store: Store,
    *,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a model again by its recipe, on its data as it is today; promote the result unless it
    is worse than the live version on today's held-out data.

    Raises WeightsMissingError, PromotionError (no recipe), and what `train` raises.
    """
    current = store.current(name)
    path = _recipe_path(current, store)
    recipe = read_recipe(path).changed(name=name)
    corpus = load_corpus(recipe.paths(path.parent), recipe.corpus)
    with _alone(store, name) as run_folder:
        trained = Run(recipe, corpus, run_folder, listener=listener, stop=stop).train()
        version = store.add(name, trained.data)
        verdict = _judged(store, name, trained, corpus)
        promoted, reason = verdict.promote, verdict.reason
        if promoted:
            store.promote(name, version, reason=reason, recipe=current.recipe)
        else:
            store.refuse(name, version, reason=reason)
        RunFiles(run_folder).clear()
        return Outcome(name, version, promoted, reason, trained, verdict.live_loss)


@contextmanager
def _alone(store: Store, name: str) -> Iterator[Path]:
    """Hold the model's lock; the system lets go of it when the process ends, however it ends."""
    folder = store.folder(name)
    run_folder = folder / RUN_FOLDER
    run_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"model {name!r} is being trained by another process (lock {run_folder / 'lock'}); "
            "wait for it to end"
        ) from None
    try:
        sweep(folder)
        sweep(run_folder)
        yield run_folder
    finally:
        lock.release()


@dataclass(frozen=True)
class _Verdict:
    promote: bool
    reason: str
    live_loss: float | None


def _judged(store: Store, name: str, trained: Trained, corpus: Corpus) -> _Verdict:
    """The candidate against the live version, on today's validation data that both can read."""
    try:
        live, _ = store.load(name)
    except WeightsError:
        return _Verdict(True, "the version before is missing or damaged", None)
    ours, theirs = [], []
    for text in corpus.sequences["validation"]:
        as_read = _read_by(live, corpus.vocabulary.write(text))
        if as_read is not None:
            ours.append(text)
            theirs.append(as_read)
    if not ours:
        return _Verdict(False, "the live version can read nothing of today's held-out data", None)
    candidate, before = _loss(trained.model, ours), _loss(live, theirs)
    left_out = len(corpus.sequences["validation"]) - len(ours)
    note = f", {left_out} left out that the live version can't read" if left_out else ""
    reason = f"validation loss {candidate:.4f}, {before:.4f} before (margin {TOLERANCE}{note})"
    return _Verdict(candidate <= before + TOLERANCE, reason, before)


def _read_by(model: FrozenModel, written: str) -> str | None:
    """A text as a model reads it; None where it doesn't know a character, or can't write it so."""
    text = model.vocabulary.match(written)
    known = set(text) <= set(model.vocabulary.known_characters)
    return text if known and model.vocabulary.write(text) == written else None


def _loss(model: FrozenModel, sequences: Sequence[str]) -> float:
    network = CharRNN(model.config, model.params)
    return evaluate(network, sequences, model.vocabulary, Workspace()).nats_per_character


def _recipe_path(current: Current, store: Store) -> Path:
    path = store.root.resolve().parent / current.recipe if current.recipe else None
    if path is None or not path.is_file():
        raise PromotionError(
            f"version {current.version[:SHORT_VERSION]} names no recipe that is there "
            f"({current.recipe}); train it under another name with `python -m charrnn train`"
        )
    return path


def _relative(path: Path, root: Path) -> str:
    """A path as CURRENT.json keeps it: relative to the folder that the weights folder is in."""
    parent = root.resolve().parent
    path = path.resolve()
    return str(path.relative_to(parent)) if path.is_relative_to(parent) else str(path)
