"""From a recipe to a live version: one at a time, never a worse one, and a record of it all."""

import hashlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charrnn.budget import Within, step_back
from charrnn.checkpoint import RunFiles
from charrnn.corpus import Corpus, load_corpus
from charrnn.errors import PromotionError, WeightsError
from charrnn.files import canonical_json, write_atomically
from charrnn.gate import Verdict, best_whole, judge
from charrnn.hooks import run_hook
from charrnn.outcomes import Changes, Outcome, write_report
from charrnn.ranks import Ranks
from charrnn.reading import Watch, hash_of_files
from charrnn.recipe import Recipe, read_recipe, write_recipe
from charrnn.store import ROLLED_BACK, Store
from charrnn.training import TRAINING_FORMAT, Listener, Run, Trained
from charrnn.versions import (
    RUN_FOLDER,
    alone,
    announce_candidate,
    prune_locked,
    recipe_of,
    report_path,
    settle_candidate,
)
from charrnn.warm import Start, fits

RECIPE = "recipe.toml"
ATTEMPTS = ("promoted", "unchanged", "refused")


@dataclass(frozen=True)
class _Plan:
    """A recipe, where it stands, its data files, and what an attempt at it is known by.

    inputs: a hash of all that the weights follow from, with the defaults of the classes in place of
    what the recipe leaves to the data. said: which of those it gives itself. Not part of the hash,
    so that the attempts from before there was such a list still have theirs.
    """

    recipe: Recipe
    path: Path
    files: list[Path]
    data_sha256: str
    inputs: str
    said: list[str]

    @classmethod
    def of(cls, recipe: Recipe, path: Path, files: list[Path], data: str) -> "_Plan":
        warm = recipe.retraining.warm_start
        facts = [recipe.described(), recipe.gate.values(), warm, data, TRAINING_FORMAT]
        inputs = hashlib.sha256(canonical_json(facts).encode()).hexdigest()
        return cls(recipe, path, files, data, inputs, recipe.said_defaults())

    def is_that_of(self, attempt: dict[str, Any]) -> bool:
        """Whether an attempt that is written down was at the same."""
        said = attempt.get("said", self.said)
        return attempt.get("inputs") == self.inputs and said == self.said

    def written_down(self) -> dict[str, Any]:
        """What an attempt is known by."""
        return {"inputs": self.inputs, "said": self.said}


def train(
    recipe: Recipe,
    folder: Path,
    store: Store,
    *,
    recipe_path: Path | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Train the first version of a model and promote it.

    Args:
        recipe: what to do; its data files are relative to `folder`.
        recipe_path: where the recipe is kept; None to keep it in the model's folder.
        ranks: the processes that train it together, of which this is rank 0; the others `follow`.

    Raises PromotionError where the name has a live version, LockedError, CorpusError,
    TrainingError, TrainingInterrupted.
    """
    begun, name = time.monotonic(), recipe.name
    listener = listener or Listener()
    with ranks.joining() if ranks else nullcontext():
        files = recipe.paths(folder, recipe_path)
        corpus = _corpus(files, recipe, store, listener, stop)
        # Of what was read: who changes data or recipe from here on has them learned by `retrain`.
        whole = recipe if recipe_path else recipe.to_keep(corpus)
        path = recipe_path or store.folder(name) / RECIPE
        plan = _Plan.of(whole, path, files, corpus.source.sha256)
        with alone(store, name) as run_folder:
            if name in store.models():
                raise PromotionError(
                    f"model {name!r} already has a live version "
                    f"({store.live_version(name)}): train under another --name, or replace it "
                    f"by a better one with `python -m charrnn retrain {name}`"
                )
            run = Run(recipe, corpus, run_folder, listener=listener, stop=stop, ranks=ranks)
            return _first_version(run, store, plan, begun, keep_recipe=recipe_path is None)


def _first_version(
    run: Run, store: Store, plan: _Plan, begun: float, *, keep_recipe: bool
) -> Outcome:
    """Train it, keep it, promote it."""
    name, trained = plan.recipe.name, run.train()
    announce_candidate(store, name, trained.version)
    version = store.add(name, trained.data)
    if keep_recipe:
        write_atomically(plan.path, write_recipe(plan.recipe).encode())
    outcome = Outcome(
        *(name, version, "promoted", "first version"),
        trained=trained,
        data_sha256=plan.data_sha256,
        seconds={"all": time.monotonic() - begun},
    )
    details = {**outcome.details(), **plan.written_down(), "run": trained.fingerprint}
    where = _relative(plan.path, store.root)
    store.promote(name, version, reason=outcome.reason, recipe=where, details=details)
    return _settled(outcome, store, store.folder(name) / RUN_FOLDER)


def follow(
    recipe: Recipe,
    folder: Path,
    store: Store,
    ranks: Ranks,
    *,
    recipe_path: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """`train`, of a rank that isn't the first: it learns with the others, and writes nothing but a
    large text that it has to encode. Raises what `train` does, and LeftOut.
    """
    with ranks.joining():
        corpus = _corpus(recipe.paths(folder, recipe_path), recipe, store, Listener(), stop)
        Run(recipe, corpus, stop=stop, ranks=ranks).train()


def retrain(
    name: str,
    store: Store,
    *,
    recipe_path: Path | None = None,
    force: bool = False,
    promote_anyway: bool = False,
    warm_start: bool | None = None,
    be_nice: bool = False,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a model again by its recipe, on its data as it is today; promote the result if it
    passes the gate. Does nothing where nothing has changed since the last attempt.

    Args:
        recipe_path: another recipe than the one that the live version was trained by.
        force: train even so.
        promote_anyway: whatever the gate says; it is written down.
        warm_start: begin with the live weights, or not; None for what the recipe says.
        be_nice: step back behind other processes as the recipe says, for good: only for a process
            that does nothing else.

    Raises WeightsMissingError, PromotionError (no recipe), and what `train` raises.
    """
    begun = time.monotonic()
    store.fill(name)
    plan = _planned(name, store, recipe_path, warm_start)
    settings = plan.recipe.retraining
    if be_nice:
        step_back(settings.nice)
    with alone(store, name) as run_folder:
        live, last = _whole_live(store, name), _last_attempt(store, name)
        if live and not force and plan.is_that_of(last):
            came_of_it = f", which was {last['event']}" if last["event"] == "refused" else ""
            reason = f"data and recipe are as they were at the last attempt{came_of_it}"
            return Outcome(name, live.version, "unchanged", reason, live.version)
        if not plan.is_that_of(last):  # else it may be of the same run, made once more
            RunFiles(run_folder).clear_run(last.get("run", ""))
        attempt = _Attempt(store, plan, live, begun, promote_anyway)
        within = Within(plan.recipe, plan.path, listener or Listener())
        outcome = _settled(attempt.made(run_folder, within, stop), store, run_folder)
        if settings.keep:
            outcome = replace(outcome, deleted=prune_locked(name, store, settings.keep))
    if settings.hook and outcome.event != "unchanged":
        run_hook(settings.hook, outcome.to_json(), plan.path.parent, settings.hook_seconds)
    return outcome


@dataclass(frozen=True)
class _Attempt:
    """One retraining, by one that holds the lock. `live` is None where it is damaged."""

    store: Store
    plan: _Plan
    live: Start | None
    begun: float
    anyway: bool

    def made(self, run_folder: Path, listener: Listener, stop: Callable[[], bool]) -> Outcome:
        """Train, judge, and promote or refuse."""
        plan, store, name = self.plan, self.store, self.plan.recipe.name
        corpus = _corpus(plan.files, plan.recipe, store, listener, stop)
        trained, start = self._trained(corpus, run_folder, listener, stop)
        seconds = {"training": time.monotonic() - self.begun}
        announce_candidate(store, name, trained.version)
        version = store.add(name, trained.data)
        outcome = Outcome(
            name,
            version,
            "unchanged",
            "trained to the bytes of the live version",
            self.live.version if self.live else None,
            trained,
            data_sha256=plan.data_sha256,
            warm_start=start,
            changes=Changes.since(self.live.model if self.live else None, corpus),
        )
        if not self.live or version != self.live.version:
            judged = time.monotonic()
            verdict = judge(store, name, version, trained.model, corpus, plan.recipe.gate)
            seconds["gate"] = time.monotonic() - judged
            outcome = self._by_verdict(outcome, verdict)
        seconds["all"] = time.monotonic() - self.begun
        outcome = replace(outcome, seconds=seconds)
        self._write_down(outcome, trained.fingerprint)
        return outcome

    def _trained(
        self, corpus: Corpus, run_folder: Path, listener: Listener, stop: Callable[[], bool]
    ) -> tuple[Trained, str | None]:
        """The run, and the version that it began with. Where the network of the recipe has
        another shape than the live one, it begins with chance.
        """
        recipe = self.plan.recipe

        def run(start: Start | None) -> Run:
            return Run(recipe, corpus, run_folder, listener=listener, stop=stop, start=start)

        cold = run(None)
        live = self.live if recipe.retraining.warm_start else None
        if live is None or not fits(live.model, cold.model):
            return cold.train(), None
        del cold  # and with it a copy of all that a run holds
        return run(live).train(), live.version

    def _by_verdict(self, outcome: Outcome, verdict: Verdict) -> Outcome:
        """Promoted or refused, and why."""
        if verdict.passed:
            return replace(outcome, event="promoted", reason=verdict.reason, verdict=verdict)
        if self.anyway:
            reason = f"promoted anyway: {verdict.reason}"
            return replace(outcome, event="promoted", reason=reason, verdict=verdict, anyway=True)
        return replace(outcome, event="refused", reason=verdict.reason, verdict=verdict)

    def _write_down(self, outcome: Outcome, run: str) -> None:
        store, name, version = self.store, outcome.name, outcome.version
        details = {**outcome.details(), **self.plan.written_down(), "run": run}
        recipe = _relative(self.plan.path, store.root)
        if outcome.promoted:
            store.promote(name, version, reason=outcome.reason, recipe=recipe, details=details)
            return
        store.note(name, outcome.event, version, reason=outcome.reason, details=details)
        if outcome.verdict and not outcome.verdict.live_is_whole:
            best = best_whole(store, name, outcome.verdict)
            if best:  # a damaged version is not left live, even if the new one isn't good enough
                reason = "the live version is damaged; this is the best of those kept"
                store.promote(name, best, reason=reason, recipe=recipe, event=ROLLED_BACK)


def _corpus(
    paths: list[Path], recipe: Recipe, store: Store, listener: Listener, stop: Callable[[], bool]
) -> Corpus:
    watch = Watch(listener.reading, stop)
    return load_corpus(paths, recipe.corpus, cache=store.texts, watch=watch)


def _settled(outcome: Outcome, store: Store, run_folder: Path) -> Outcome:
    """The end of a run whose fate is written down: its report, and no checkpoint any more."""
    settle_candidate(store, outcome.name)
    path = report_path(store, outcome.name, outcome.version)
    outcome = replace(outcome, report=write_report(outcome, path, run_folder))
    RunFiles(run_folder).clear()
    return outcome


def _whole_live(store: Store, name: str) -> Start | None:
    """The live version, where it can be loaded."""
    try:
        model, version = store.load(name)
    except WeightsError:
        return None
    return Start(version, model)


def _last_attempt(store: Store, name: str) -> dict[str, Any]:
    """What is written down of the last attempt."""
    for line in reversed(store.history(name)):
        if line.get("event") in ATTEMPTS and "inputs" in line:
            return line
    return {}


def _planned(name: str, store: Store, recipe_path: Path | None, warm_start: bool | None) -> _Plan:
    """What there is to do, as the recipe and the arguments of `retrain` say."""
    path = recipe_path or _recipe_path(name, store)
    recipe = read_recipe(path).changed(name=name)
    if warm_start is not None:
        recipe = recipe.changed(retraining=recipe.retraining.changed(warm_start=warm_start))
    files = recipe.paths(path.parent, path)
    return _Plan.of(recipe, path, files, hash_of_files(files))


def _recipe_path(name: str, store: Store) -> Path:
    """The recipe of the live version: beside the weights folder, or beside the one that ships."""
    recipe = recipe_of(store, name)
    roots = [root for root in (store.root, store.shipped) if root]
    for root in roots if recipe else ():
        path = root.resolve().parent / str(recipe)
        if path.is_file():
            return path
    raise PromotionError(
        f"model {name!r} names no recipe that is there ({recipe}); name one with --recipe, or "
        "train under another name with `python -m charrnn train`"
    )


def _relative(path: Path, root: Path) -> str:
    """A path as CURRENT.json keeps it: relative to the folder that the weights folder is in. What
    is itself a link stays one, since its data lie beside it.
    """
    parent = root.resolve().parent
    path = path.parent.resolve() / path.name
    return str(path.relative_to(parent)) if path.is_relative_to(parent) else str(path)
