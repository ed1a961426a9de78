"""Training: from a recipe and a corpus to frozen weights, with checkpoints that a killed run
resumes from, to the same bytes.

What a step does is a function of the parameters, the optimiser's memory and the step's number
alone: batches and dropout masks are drawn from generators seeded by the step. So a checkpoint
holds vectors and a few numbers, and where it is taken changes nothing.
"""

import hashlib
import math
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from charrnn import lines
from charrnn.batches import ChatFeed, Feed, NameFeed, TextFeed, evaluation_batches
from charrnn.checkpoint import Progress, RunFiles
from charrnn.config import ModelConfig, TrainConfig
from charrnn.corpus import Corpus
from charrnn.course import Course, Pace
from charrnn.dropping import drops_anything
from charrnn.errors import ConfigError, FieldProblem, TrainingError, TrainingInterrupted
from charrnn.evaluation import Loss, evaluate, seconds_for_a_symbol
from charrnn.files import canonical_json
from charrnn.joint import News, agreed, gather_state, own_part, take_up
from charrnn.memory import peak_memory
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.optimizers import clip_by_norm, clip_by_value, learning_rate
from charrnn.packed import Batch
from charrnn.parallel import Team
from charrnn.parameters import Array
from charrnn.ranks import Ranks
from charrnn.recipe import Recipe
from charrnn.threads import blas_kernel, blas_threads
from charrnn.warm import Start, carry_over
from charrnn.weights import FrozenModel, from_bytes, sha256_of, to_bytes

TRAINING_FORMAT = 3  # changes when the same recipe gives other weights: retraining trains again
ROUNDING = 6  # changes when it does by other last bits alone: a run from before isn't gone on with
CHECKPOINT_SECONDS = 10.0


class Listener:
    """What a run tells of itself. This one keeps silent; the command line draws a bar."""

    def reading(self, what: str, done: int, total: int) -> None:
        """While the data are read ("reading", "encoding"): bytes done, and all of them."""

    def started(self, run: "Run") -> None:
        """Before the first step, with the plan made."""

    def stepped(self, run: "Run", characters: int) -> None:
        """After each step."""

    def evaluated(self, run: "Run", validation: Loss) -> None:
        """After each look at the validation set."""

    def ended(self) -> None:
        """After the run, however it ended."""


@dataclass(frozen=True)
class Trained:
    """A finished run: the weights file, the model as loaded from it, and what a checkpoint of this
    run would say that it is of.
    """

    data: bytes
    model: FrozenModel
    progress: Progress
    fingerprint: str

    @cached_property
    def version(self) -> str:
        """What the file will be named by."""
        return sha256_of(self.data)


class Run:
    """One training. `folder` takes the checkpoint and the metrics; None keeps neither.

    `stop` is asked before each step, and in the evaluation at the end; `reduce` may change the flat
    gradient before it is used; `start` is a version of the same shape to begin with. `ranks` share
    each batch, and the looks: all of them make the same run, of which rank 0 alone has a folder and
    a listener.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        folder: Path | None = None,
        *,
        listener: Listener | None = None,
        stop: Callable[[], bool] = lambda: False,
        reduce: Callable[[Array], None] | None = None,
        start: Start | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.recipe = recipe.completed(corpus)
        self.ranks = ranks
        self.start = start
        self.corpus = corpus
        self.files = RunFiles(folder)
        self.listener = listener or Listener()
        self.progress = Progress()
        self._stop, self._reduce = stop, reduce
        if ranks:
            ranks.told_to_end = stop
        config: TrainConfig = self.recipe.training
        self.config = config
        if ranks and config.processes > 1:
            rule = "must be 1 where mpiexec starts the processes; have it start as many ranks"
            raise ConfigError([FieldProblem("training.processes", rule, str(config.processes))])
        self.feed = _feed(corpus, config)
        self.course = Course(config, corpus, self.feed.steps_in_epoch)
        self.model_config = ModelConfig.checked(
            {**self.recipe.network.values(), "vocab_size": len(corpus.vocabulary)}
        )
        rng = np.random.default_rng([config.random_seed, 0])
        self.work = Workspace()
        network = CharRNN.initialized(self.model_config, rng)
        if start:
            carry_over(start.model, network, corpus.vocabulary)
        self.team = Team(network, config.processes, self.work, config)
        self.model, self.grads = self.team.model, self.team.grads
        self.params = self.model.params
        self.average = self.params.like(lines.copy(self.params.flat)) if config.averaging else None
        self.best = self.params.flat.copy()
        self.state = self.model.init_state(self.feed.batch_size)
        self._trying = False  # steps that nobody else hears of
        self._begun = self._saved = time.monotonic()
        self._news = News()

    def train(self) -> Trained:
        """Run to the end of the budget, from the checkpoint where there is one.

        Raises TrainingError (the loss is not finite, or explodes, or a worker process ends; nothing
        is overwritten) and TrainingInterrupted.
        """
        if self.ranks:
            self.ranks.meet(self._facts())
        bound = self.ranks.bound() if self.ranks else nullcontext()
        with bound, blas_threads(1), self.team:
            if not self._resume():
                steps, closing = self.config.steps, 0.0
                if self.config.minutes:
                    closing = self.course.closing_seconds(self._pace)
                elif steps is None:
                    steps = self.course.planned_steps(self._pace)
                self.progress.steps = self._from_first(steps)
                self.progress.closing = self._from_first(closing)
            if self.ranks:
                self._save()  # mpiexec may leave no time for it when a rank dies
            self.files.drop_records_after(self.progress.step)
            self.listener.started(self)
            self._loop()
            self._save()  # should the result find no room, the run isn't lost
            return self._finished()

    def averaged(self) -> CharRNN:
        """The network as it would be kept now: the average of the weights where there is one."""
        return self.model if self.average is None else CharRNN(self.model_config, self.average)

    @property
    def fraction_done(self) -> float:
        """How far through the budget, 0 to 1."""
        return self.course.fraction_done(self.progress)

    def estimated_seconds(self) -> float:
        """How long the rest of the run will take on this machine as it is now."""
        return self.course.seconds_left(self.progress, self._pace)

    def _loop(self) -> None:
        p = self.progress
        self._begun, self._saved = time.monotonic() - p.seconds, time.monotonic()
        while not self._is_over():
            if self._news.stop if self.ranks else self._stop():
                self._save()
                raise self._interrupted()
            characters = self._step()
            p.seconds = self._news.seconds if self.ranks else time.monotonic() - self._begun
            self.listener.stepped(self, characters)
            if self.course.is_to_look(p):
                self._look()
            if self._news.save if self.ranks else self._is_to_save():
                self._save()

    def _interrupted(self) -> TrainingInterrupted:
        kept = "the same command goes on from there" if self.files.folder else "not kept"
        return TrainingInterrupted(f"stopped at step {self.progress.step:,}; {kept}")

    def _is_to_save(self) -> bool:
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def _is_over(self) -> bool:
        patience = self.config.patience
        out_of_patience = patience is not None and self.progress.looks_without_gain >= patience
        return self.fraction_done >= 1 or out_of_patience

    @np.errstate(over="ignore", invalid="ignore")  # `_check` finds what they would warn of
    def _step(self) -> int:
        """One update. Returns how many characters it learned from."""
        p, config = self.progress, self.config
        batch = self.feed.batch(p.step)
        rows = int(batch.sizes[0])
        if self.feed.starts_afresh(p.step):
            self.state = self.model.init_state(rows)
        loss, final = self._gradient(batch, self.state, p.step)
        if self.corpus.carries_state:
            self.state = final
        gradient = self.grads.flat
        if config.summed:
            gradient *= gradient.dtype.type(len(batch.ids) / rows)
        if self._reduce:
            self._reduce(gradient)
        if self.ranks and not self._trying:
            own = News(self._stop(), self._is_to_save(), time.monotonic() - self._begun)
            loss, self._news = agreed(self.ranks, gradient, loss, own)
        self._check(loss, clip_by_norm(gradient, config.clip_norm))
        if config.clip_value:
            clip_by_value(gradient, config.clip_value)
        rate = learning_rate(config, p.step, self.fraction_done) * p.rate_factor
        p.step += 1
        self.team.update(rate, p.step)
        if self.average is not None:
            decay = min(config.averaging, (1 + p.step) / (10 + p.step))
            self.average.flat[:] += np.float32(1 - decay) * (self.params.flat - self.average.flat)
        p.training_loss = loss if p.step == 1 else 0.98 * p.training_loss + 0.02 * loss
        return len(batch.ids)

    def _gradient(self, batch: Batch, state: Array, step: int) -> tuple[float, Array]:
        """The loss and the last states; the gradient is in `grads`. Of a rank, its part of them."""
        drops = drops_anything(self.model_config)
        seed = [self.config.random_seed, 2, step] if drops else None
        if self.ranks:
            return own_part(self.ranks, self.model, batch, state, self.grads, self.work, seed)
        return self.team.loss_and_grads(batch, state, seed)

    def _check(self, loss: float, norm: float) -> None:
        limit = 10 * math.log(len(self.corpus.vocabulary))
        if math.isfinite(loss) and math.isfinite(norm) and loss < limit:
            return
        raise TrainingError(
            f"the loss in step {self.progress.step + 1} must stay finite and below {limit:.1f} "
            f"nats per symbol, got {loss:.3g} (gradient norm {norm:.3g}); lower learning_rate "
            f"({self.config.learning_rate:g}) or clip the gradient. Nothing was overwritten"
        )

    @np.errstate(over="ignore", invalid="ignore")
    def _look(self) -> None:
        """Evaluate on the validation set, and keep the weights if they are the best yet."""
        p, kept = self.progress, self.averaged()
        if self.ranks:
            self.ranks.check_step(p.step, self.params.flat)
        validation = self._evaluated(kept, "validation")
        loss = validation.nats_per_character
        if not math.isfinite(loss):
            self._check(loss, 0.0)
        if loss < p.best_loss:
            p.best_loss, p.best_step, p.looks_without_gain = loss, p.step, 0
            self.best[:] = kept.params.flat
        else:
            p.looks_without_gain += 1
        if self.config.halve_on_rise and loss > p.last_loss:
            p.rate_factor /= 2
        p.last_loss = loss
        rate = learning_rate(self.config, p.step, self.fraction_done) * p.rate_factor
        self.files.record(
            {
                "step": p.step,
                "seconds": round(p.seconds, 3),
                "training_loss": p.training_loss,
                "validation_loss": loss,
                "learning_rate": rate,
            }
        )
        self.listener.evaluated(self, validation)

    def _evaluated(
        self, network: CharRNN, split: str, heed: Callable[[], None] = lambda: None
    ) -> Loss:
        vocabulary, sequences = self.corpus.vocabulary, self.corpus.sequences[split]
        return evaluate(network, sequences, vocabulary, self.work, self.ranks, heed)

    def _finished(self) -> Trained:
        """Freeze the best weights, and evaluate what a reader of the file will load. All is saved
        before, so this may be stopped at any time; not by ranks, who would have to agree.
        """

        def heed() -> None:
            if self._stop() and not self.ranks:
                raise self._interrupted()

        corpus, best = self.corpus, self.params.like(self.best)
        provenance = {
            "recipe": self.recipe.described(),
            "steps": self.progress.steps,
            "best_step": self.progress.best_step,
            "random_seed": self.config.random_seed,
            "data": {
                "sha256": corpus.source.sha256,
                "bytes": corpus.source.size,
                "characters": corpus.characters("train"),
                **{split: corpus.size(split) for split in corpus.sequences},
            },
            "training_format": TRAINING_FORMAT,
            "versions": _versions(),
            **({"warm_start": self.start.version} if self.start else {}),
            **({"ranks": self.ranks.count} if self.ranks else {}),
        }
        draft = FrozenModel(
            corpus.kind, self.model_config, best, corpus.vocabulary, corpus.names, provenance, {}
        )
        stored = from_bytes(to_bytes(draft))
        network = CharRNN(stored.config, stored.params)
        evaluation = {
            split: self._evaluated(network, split, heed).to_json()
            for split in ("validation", "test")
        }
        data = to_bytes(replace(draft, evaluation=evaluation))
        return Trained(data, from_bytes(data), self.progress, self._fingerprint)

    @cached_property
    @np.errstate(over="ignore", invalid="ignore")
    def _pace(self) -> Pace:
        """By trying a few steps, and a part of a look, which ranks share."""
        vocabulary, held_out = self.corpus.vocabulary, self.corpus.sequences["validation"]
        seconds = seconds_for_a_symbol(self.model, held_out, vocabulary, self.work)
        return Pace(self._seconds_for_a_step(), seconds / (self.ranks.count if self.ranks else 1))

    def _seconds_for_a_step(self) -> float:
        with self._unchanged():
            self._step()  # the first one also allocates
            times: list[float] = []
            while len(times) < 3 or (sum(times) < 1.0 and len(times) < 30):
                start = time.monotonic()
                self._step()
                times.append(time.monotonic() - start)
        return float(np.median(times))

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Take steps that are then as if they had never been, and that nobody else hears of."""
        arrays = {name: array.copy() for name, array in self._arrays().items()}
        progress, reduce, state = self.progress, self._reduce, self.state
        self.progress, self._reduce, self._trying = replace(progress), None, True
        try:
            yield
        finally:
            self.progress, self._reduce, self.state = progress, reduce, state
            self._trying = False
            for name, array in self._arrays().items():
                array[...] = arrays[name]

    def estimated_memory(self) -> int | None:
        """The most bytes that the process and its workers will hold until the run ends; None where
        the system doesn't tell what a process holds.

        A part of it no list of buffers would tell: what the matrix products take for themselves,
        and what the allocator keeps. So the largest things of a run are tried, and the process is
        asked. To that comes what saving the vectors will take.
        """
        self._rehearse()
        so_far, sizes = peak_memory(), [array.nbytes for array in self._arrays().values()]
        if so_far is None:
            return None
        # `pack_arrays` holds all twice more, as bytes and as read back, and one array once again.
        return so_far + self.team.workers_memory() + 2 * sum(sizes) + max(sizes)

    @np.errstate(over="ignore", invalid="ignore")
    def _rehearse(self) -> None:
        """The largest step up to its gradient, and a batch of a look: nothing is learned, but every
        buffer of the workspace has its size, and what the update rule remembers is in memory.
        """
        for moment in self.team.optimizer.moments.values():
            moment *= moment.dtype.type(1)
        step = self.feed.largest_step(self.progress.steps)
        batch = self.feed.batch(step)
        self._gradient(batch, self.model.init_state(int(batch.sizes[0])), step)
        held_out = (self.corpus.sequences[split] for split in ("validation", "test"))
        longest = max(held_out, key=lambda sequences: sum(map(len, sequences)))
        batch, _ = next(evaluation_batches(longest, self.corpus.vocabulary))
        self.model.loss(batch, self.model.init_state(int(batch.sizes[0])), self.work)

    # Checkpoints

    @property
    def _fingerprint(self) -> str:
        """What a checkpoint must share with the run that goes on from it."""
        facts = [self.recipe.described(), self.corpus.source.sha256, TRAINING_FORMAT, _versions()]
        facts += [ROUNDING, *([self.start.version] if self.start else [])]
        vocabulary = self.corpus.vocabulary
        facts += [vocabulary.to_json()] if vocabulary.unknown is not None else []
        return hashlib.sha256(canonical_json(facts).encode()).hexdigest()

    def _arrays(self) -> dict[str, Array]:
        """Everything that a step changes, but for the numbers in `progress`."""
        arrays = {"params": self.params.flat, "best": self.best, "state": self.state}
        if self.average is not None:
            arrays["average"] = self.average.flat
        return {**arrays, **{f"moments.{n}": m for n, m in self.team.optimizer.moments.items()}}

    def _save(self) -> None:
        if self.ranks and self.corpus.carries_state:
            gather_state(self.ranks, self.state)
        self.files.save(self._fingerprint, self.progress, self._arrays())
        self._saved = time.monotonic()

    def _resume(self) -> bool:
        """Take up the checkpoint of a stopped run of the same recipe and data, if there is one. All
        ranks go on from what rank 0 has.
        """
        found = self.files.load(self._fingerprint)
        if found:
            self.progress, arrays = found
            self.state = arrays["state"].copy()
            for name, array in self._arrays().items():
                array[...] = arrays[name]
        if self.ranks:
            self.progress, self.state = take_up(self.ranks, self.progress, self._arrays())
        return bool(self._from_first(found is not None))

    def _from_first(self, value: Any) -> Any:
        """What rank 0 has."""
        return self.ranks.from_first(value) if self.ranks else value

    def _facts(self) -> dict[str, str]:
        """What must be the same on all ranks."""
        recipe = canonical_json(self.recipe.described())
        vocabulary = canonical_json(self.corpus.vocabulary.to_json())
        return {
            "recipe": hashlib.sha256(recipe.encode()).hexdigest(),
            "data": self.corpus.source.sha256,
            "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
            "training format": f"{TRAINING_FORMAT}.{ROUNDING}",
            **_versions(),
        }


def _feed(corpus: Corpus, config: TrainConfig) -> Feed:
    words = config.word_dropout
    if words and corpus.kind != "chat":
        rule = "must be left out, or 0, where the data are no conversations"
        raise ConfigError([FieldProblem("training.word_dropout", rule, f"{words:g}")])
    if corpus.vocabulary.end is not None:
        return NameFeed(corpus, config.batch_size, config.random_seed, config.truncate)
    if corpus.kind == "chat":
        chain = config.chain or 1
        return ChatFeed(corpus, config.batch_size, chain, config.random_seed, words)
    return TextFeed(corpus, config.batch_size, config.seq_length, config.random_seed)


def _versions() -> dict[str, str]:
    from charrnn import __version__

    return {
        "charrnn": __version__,
        "numpy": np.__version__,
        "blas": blas_kernel(),
        "unicode": unicodedata.unidata_version,
    }
