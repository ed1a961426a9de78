"""The library's front door: load a frozen model, then generate, stream and score.

generator = charrnn.load("dinosaurs")
for sample in generator.generate("Tyr", count=5):
    print(sample.text, sample.logprob)
"""

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import LONGEST_TEXT, GenerationConfig, shown
from charrnn.constraints import MinLength
from charrnn.decoding import DecodeBatch, Drawn, FinishReason
from charrnn.errors import ConfigError, FieldProblem
from charrnn.model import CharRNN, count_parameters
from charrnn.ops import log_softmax
from charrnn.store import SHORT_VERSION, SUFFIX, Store
from charrnn.threads import blas_threads
from charrnn.weights import FrozenModel, from_bytes, read_file, sha256_of

SLOTS = 64  # sequences stepped together
TEXT_LENGTH = 500  # default max_length of running text, characters
MOST_NATS = 700.0  # a symbol: its perplexity is still a finite number


@dataclass(frozen=True)
class Sample:
    """One text. `logprob` is natural, at temperature 1 and unconstrained, of what was drawn: the
    seed excluded, the end symbol (or the stop string) included. `novel`: nowhere in the list that
    the model learned from and was tested on; None for running text.
    """

    text: str
    logprob: float
    finish_reason: FinishReason
    novel: bool | None


class Samples(list[Sample]):
    """The samples of one call, in order, and what it takes to have them again."""

    def __init__(
        self, samples: list[Sample], *, seed: str, random_seed: int, requested: int
    ) -> None:
        super().__init__(samples)
        self.seed = seed
        self.random_seed = random_seed
        self.requested = requested
        self.shortfall: str | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of a streamed text; `sample` comes with the last one of its text."""

    index: int
    text: str
    sample: Sample | None


class SymbolScore(NamedTuple):
    """One symbol of a scored text: its natural log-probability, and what was likeliest there."""

    symbol: str
    logprob: float
    likeliest: str


@dataclass(frozen=True)
class Score:
    """How likely a text is. `symbols` are its own, and the end symbol where the model has one."""

    text: str
    logprob: float
    perplexity: float
    symbols: tuple[SymbolScore, ...]


def load(
    model: str | Path, *, version: str | None = None, weights: Store | Path | str | None = None
) -> "Generator":
    """A generator for a model.

    Args:
        model: a name under the weights folder ("dinosaurs"), or a path to a .safetensors file.
        version: at least 6 hex digits of a kept version; None for the live one.
        weights: the weights folder; None for CHARRNN_WEIGHTS, then the repository's own.

    Raises WeightsMissingError, WeightsCorruptError, WeightsFormatError, ConfigError.
    """
    if not isinstance(model, Path):
        _check_text("model", model)
    if version is not None:
        _check_text("version", version)
    if isinstance(model, Path) or model.endswith(SUFFIX):
        path = Path(model)
        data = read_file(path)
        return Generator(path.stem, sha256_of(data), from_bytes(data, str(path)))
    store = weights if isinstance(weights, Store) else Store(weights)
    frozen, full = store.load(model, version)
    return Generator(model, full, frozen)


def _check_text(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ConfigError([FieldProblem(field, "must be text", shown(value))])


class Generator:
    """A frozen model, ready to write. Holds no state of a text: threads may share it."""

    def __init__(self, name: str, version: str, frozen: FrozenModel) -> None:
        self.name = name
        self.version = version[:SHORT_VERSION]
        self.frozen = frozen
        self.vocabulary = frozen.vocabulary
        self.model = CharRNN(frozen.config, frozen.params)

    @property
    def known_characters(self) -> str:
        """The characters that a seed may hold, as the model reads them."""
        return self.vocabulary.known_characters

    @property
    def default_max_length(self) -> int:
        """Twice the longest name of the list; 500 for running text."""
        longest = max(map(len, self.frozen.names), default=0)
        return min(2 * longest, LONGEST_TEXT) if longest else TEXT_LENGTH

    def card(self) -> dict[str, Any]:
        """What the model is and what it learned from, ready for JSON."""
        config, provenance = self.frozen.config, self.frozen.provenance
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.frozen.kind,
            "cell": config.cell,
            "hidden_size": config.hidden_size,
            "num_layers": config.num_layers,
            "parameters": count_parameters(self.frozen.params),
            "vocabulary": len(self.vocabulary),
            "known_characters": self.known_characters,
            "max_length": self.default_max_length,
            "trained_on": provenance.get("data", {}),
            "evaluation": dict(self.frozen.evaluation),
        }

    def generate(
        self, seed: str = "", *, config: GenerationConfig | None = None, **settings: Any
    ) -> Samples:
        """`count` texts that begin with `seed`.

        Args:
            seed: the opening text, matched after NFC and the model's case rule.
            config: all settings at once; or
            **settings: those of GenerationConfig: count, temperature, top_k, top_p, min_length,
                max_length, stop, random_seed.

        Raises ConfigError and UnknownCharacterError. The same random_seed gives the same texts;
        sample i doesn't change with count.
        """
        request = self._request(seed, config, settings)
        samples: dict[int, Sample] = {}
        with blas_threads(1):
            for piece in self._pieces(request):
                if piece.sample:
                    samples[piece.index] = piece.sample
        in_order = [samples[index] for index in range(request.config.count)]
        return Samples(
            in_order,
            seed=self.vocabulary.write(request.seed),
            random_seed=request.random_seed,
            requested=request.config.count,
        )

    def stream(
        self, seed: str = "", *, config: GenerationConfig | None = None, **settings: Any
    ) -> Iterator[Piece]:
        """`generate`, piece by piece: for each text its seed, then what is drawn, as it is drawn.

        The pieces of an index add up to its text. What may be the beginning of a stop string is
        held back until it is clear. Arguments and errors as in `generate`, raised at the call.
        """
        return self._pieces(self._request(seed, config, settings))

    def score(self, text: str) -> Score:
        """How likely the model finds a text. Raises UnknownCharacterError, and ConfigError for a
        text too long or with nothing to score.
        """
        _check_text("text", text)
        end = self.vocabulary.end
        matched, text_ids = self.vocabulary.read(text)
        ids = text_ids.tolist() + ([] if end is None else [end])
        if not 1 <= len(ids) <= LONGEST_TEXT:
            rule = f"must have from 1 to {LONGEST_TEXT} symbols"
            raise ConfigError([FieldProblem("text", rule, shown(text))])
        state, symbols = self.model.init_state(1), []
        with blas_threads(1):
            for before, id_ in zip([self.vocabulary.start, *ids], ids, strict=False):
                logits, state = self.model.step(np.array([before]), state)
                logprob = float(log_softmax(logits)[0, id_])
                likeliest = self.vocabulary.symbols[int(logits[0].argmax())]
                symbols.append(SymbolScore(self.vocabulary.symbols[id_], logprob, likeliest))
        total = math.fsum(symbol.logprob for symbol in symbols)
        perplexity = math.exp(min(-total / len(symbols), MOST_NATS))
        return Score(self.vocabulary.write(matched), total, perplexity, tuple(symbols))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.frozen.names)

    def _request(
        self, seed: str, config: GenerationConfig | None, settings: dict[str, Any]
    ) -> "_Request":
        _check_text("seed", seed)
        if config is None:
            config = GenerationConfig.checked(settings)
        elif not isinstance(config, GenerationConfig):
            raise ConfigError([FieldProblem("config", "must be a GenerationConfig", shown(config))])
        elif settings:
            config = config.changed(**settings)
        seed, ids = self.vocabulary.read(seed)
        if len(seed) > LONGEST_TEXT:
            rule = f"must have at most {LONGEST_TEXT} characters"
            raise ConfigError([FieldProblem("seed", rule, shown(seed))])
        max_length = self._max_length(len(seed), config)
        drawn_or_given = config.random_seed
        random_seed = secrets.randbits(32) if drawn_or_given is None else drawn_or_given
        stop = tuple(self.vocabulary.match(text) for text in config.stop)
        prompt = np.concatenate([[self.vocabulary.start], ids])
        return _Request(seed, prompt, config, max_length, random_seed, stop)

    def _max_length(self, seed_length: int, config: GenerationConfig) -> int:
        """The longest text that is asked for. Raises ConfigError where the seed is longer."""
        max_length = config.max_length
        if max_length is None:
            floor = max(seed_length + (seed_length > 0), config.min_length, 1)
            return min(max(self.default_max_length, floor), LONGEST_TEXT)
        if seed_length > max_length:
            rule = f"must be at least the seed's length ({seed_length})"
            raise ConfigError([FieldProblem("max_length", rule, str(max_length))])
        return max_length

    def _pieces(self, request: "_Request") -> Iterator[Piece]:
        """The one loop behind `generate` and `stream`: admit while slots are free, step, emit."""
        count, left = request.config.count, request.max_length - len(request.seed)
        if left < 1:
            for index in range(count):
                yield Piece(index, self.vocabulary.write(request.seed), self._whole_seed(request))
            return
        batch = DecodeBatch(self.model, min(count, SLOTS), self.vocabulary.end)
        texts: dict[int, _Text] = {}
        waiting = iter(range(count))
        while True:
            for index in islice(waiting, batch.free):
                text = _Text(index, self, request)
                texts[self._admit(batch, request, index, left)] = text
                if request.seed:
                    yield text.opening()
            if not batch.live:
                return
            with blas_threads(1):
                drawn = batch.step()
            for one in drawn:
                piece = texts[one.slot].drawn(one)
                if piece is None:
                    continue
                if piece.sample:
                    del texts[one.slot]
                    if one.finish_reason is None:
                        batch.cancel(one.slot)
                yield piece

    def _admit(self, batch: DecodeBatch, request: "_Request", index: int, left: int) -> int:
        rng = np.random.default_rng(np.random.SeedSequence([request.random_seed, index, 0]))
        fewest = max(request.config.min_length, 1) - len(request.seed)
        constraint = None
        if fewest > 0 and self.vocabulary.end is not None:  # no name is empty
            constraint = MinLength(fewest, self.vocabulary.end, len(self.vocabulary))
        return batch.admit(request.prompt, request.config, rng, limit=left, constraint=constraint)

    def _whole_seed(self, request: "_Request") -> Sample:
        """The sample where the seed leaves no room to draw."""
        return self.sample(request.seed, 0.0, "length")

    def sample(self, text: str, logprob: float, reason: FinishReason) -> Sample:
        """A sample from a text as the model writes it."""
        novel = text not in self._names if self.frozen.kind == "names" else None
        return Sample(self.vocabulary.write(text), logprob, reason, novel)


@dataclass(frozen=True)
class _Request:
    """A checked call: the seed as the model reads it, and all that the loop needs."""

    seed: str
    prompt: np.ndarray[Any, Any]
    config: GenerationConfig
    max_length: int
    random_seed: int
    stop: tuple[str, ...]


class _Text:
    """One text as it is drawn: its pieces, what is held back for a stop string, and its end."""

    def __init__(self, index: int, generator: Generator, request: _Request) -> None:
        self.index = index
        self.generator = generator
        self.request = request
        self.parts = [request.seed]
        self.tail = ""  # drawn, and not emitted yet: it may be the beginning of a stop string
        self.length = len(request.seed)
        self.logprob = 0.0

    def opening(self) -> Piece:
        """The first piece: the seed."""
        return Piece(self.index, self.generator.vocabulary.write(self.request.seed), None)

    def drawn(self, one: Drawn) -> Piece | None:
        """The piece that a drawn symbol sets free, if any."""
        self.logprob += one.logprob
        if one.finish_reason == "end":
            return self._last(self.tail, "end")
        self.tail += self.generator.vocabulary.symbols[one.id]
        self.length += 1
        stop = self._stop()
        if stop:
            return self._last(self.tail.removesuffix(stop), "stop")
        if one.finish_reason:
            return self._last(self.tail, one.finish_reason)
        clear = len(self.tail) - self._held_back()
        if not clear:
            return None
        piece, self.tail = self.tail[:clear], self.tail[clear:]
        return self._piece(piece, None)

    def _stop(self) -> str | None:
        """The longest stop string that the text now ends with, where it leaves enough text."""
        found = [
            stop
            for stop in self.request.stop
            if self.tail.endswith(stop)
            and self.length - len(stop) >= self.request.config.min_length
        ]
        return max(found, key=len, default=None)

    def _held_back(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self.request.stop), default=1) - 1
        for size in range(min(longest, len(self.tail)), 0, -1):
            if any(stop.startswith(self.tail[-size:]) for stop in self.request.stop):
                return size
        return 0

    def _piece(self, piece: str, sample: Sample | None) -> Piece:
        before = self.parts[-1]
        text = self.generator.vocabulary.write_on(before, piece)
        if piece:
            self.parts.append(piece)
        return Piece(self.index, text, sample)

    def _last(self, piece: str, reason: FinishReason) -> Piece:
        text = "".join([*self.parts, piece])
        return self._piece(piece, self.generator.sample(text, self.logprob, reason))
