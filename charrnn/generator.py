"""The library's front door: load a frozen model, then generate, stream and score.

generator = charrnn.load("dinosaurs")
for sample in generator.generate("Tyr", count=5):
    print(sample.text, sample.logprob)
"""

import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charrnn.chat import Chat, as_reply, chat_config, transcript
from charrnn.compiled import CompiledModel
from charrnn.config import LONGEST_TEXT, GenerationConfig
from charrnn.decoding import MOST_STEPS
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.model import CharRNN, count_parameters
from charrnn.ops import chosen_log_softmax
from charrnn.spelling import Speller
from charrnn.store import SHORT_VERSION, SUFFIX, Store
from charrnn.texts import Language, Request, Sample, Written
from charrnn.threads import blas_threads
from charrnn.weights import FrozenModel, from_bytes, read_file, sha256_of
from charrnn.writing import Writer

IDLE_WRITERS = 4  # kept for the next requests
CHAT_END = "\n\n"  # of a whole conversation
TEXT_LENGTH = 500  # default max_length of running text, characters
MOST_NATS = 700.0  # a symbol: its perplexity is still a finite number


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
        weights: the weights folder; None for CHARRNN_WEIGHTS, then the repository's own, then
            `weights` in the current folder, then what was installed with the library.

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
    if weights is None:
        store = store.or_packaged(model)
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
        self._idle: list[Writer] = []

    @cached_property
    def compiled(self) -> CompiledModel:
        """The network in the form that generation runs."""
        return CompiledModel(self.model)

    @property
    def known_characters(self) -> str:
        """The characters that a seed may hold, as the model reads them."""
        return self.vocabulary.known_characters

    @cached_property
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
        return self._generate([self.request(seed, config, **settings)])[0]

    def generate_many(self, requests: Sequence[tuple[str, GenerationConfig]]) -> list[Samples]:
        """Many calls of `generate` at once, each a seed and its settings: the same texts, sooner.

        Raises as `generate` does.
        """
        checked = []
        for number, each in enumerate(requests):
            try:
                seed, config = each
            except (TypeError, ValueError):
                rule = "must be a seed and its GenerationConfig"
                problem = FieldProblem(f"requests[{number}]", rule, shown(each))
                raise ConfigError([problem]) from None
            checked.append(self.request(seed, config))
        return self._generate(checked)

    def stream(
        self, seed: str = "", *, config: GenerationConfig | None = None, **settings: Any
    ) -> Iterator[Piece]:
        """`generate`, piece by piece: for each text its seed, then what is drawn, as it is drawn.

        The pieces of an index add up to its text. What may be the beginning of a stop string is
        held back until it is clear. Arguments and errors as in `generate`, raised at the call.
        """
        return self._stream(self.request(seed, config, **settings))

    def chat(self, **settings: Any) -> Chat:
        """A conversation with a model that learned from conversations.

        Args:
            **settings: those of GenerationConfig but for count; max_length is that of a reply.

        Raises ConfigError, for another kind of model too.
        """
        self._check_chats()
        return Chat(
            self.name,
            self.version,
            self.compiled,
            self.vocabulary,
            lambda config: self.request("", config),
            self._written,
            chat_config(settings),
        )

    def reply_request(
        self, turns: Sequence[tuple[str, str]], text: str, config: GenerationConfig
    ) -> Request:
        """A request for the reply to `text` after whole turns, each a person's line and a reply,
        which are all read again. Raises ConfigError.
        """
        self._check_chats()
        read = transcript(turns, text, self.vocabulary)
        prompt = [self.vocabulary.start, *self.vocabulary.ids_of(read).tolist()]
        return as_reply(self.request("", config), self.vocabulary, prompt)

    def _check_chats(self) -> None:
        if self.frozen.kind != "chat":
            rule = "must be one that learned from conversations, as rex is"
            raise ConfigError([FieldProblem("model", rule, f"{self.name}, of {self.frozen.kind}")])

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
        symbols, before = [], [self.vocabulary.start, *ids[:-1]]
        with blas_threads(1):
            for id_, logits in zip(ids, self.compiled.logits(before), strict=True):
                likeliest = self.vocabulary.symbols[int(logits.argmax())]
                logprob = float(chosen_log_softmax(logits[None], np.array([id_]))[0])
                symbols.append(SymbolScore(self.vocabulary.symbols[id_], logprob, likeliest))
        total = math.fsum(symbol.logprob for symbol in symbols)
        perplexity = math.exp(min(-total / len(symbols), MOST_NATS))
        return Score(self.vocabulary.write(matched), total, perplexity, tuple(symbols))

    def request(
        self, seed: str = "", config: GenerationConfig | None = None, **settings: Any
    ) -> Request:
        """A checked call of `generate`, for a `writer`. Arguments and errors as there."""
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
        if self.frozen.kind == "chat":
            stop += (CHAT_END,)
        prompt = [self.vocabulary.start, *ids.tolist()]
        return Request(seed, prompt, config, max_length, random_seed, stop)

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

    def speller(self, request: Request, *, from_start: bool = False) -> Speller:
        """What tells how likely each character of a request's texts was: after the prompt, or all
        of them.
        """
        assert request.position is None
        opening = request.prompt[:1] if from_start else request.prompt
        return Speller(self.compiled, self.vocabulary, opening)

    def writer(self) -> Writer:
        """What writes the texts of many requests together, for who steps it himself."""
        names = self._names if self.frozen.kind == "names" else None
        return Writer(self.compiled, Language(self.vocabulary, names))

    def piece(self, news: Written) -> Piece:
        """News of a text as a stream shows it."""
        characters = self.vocabulary.write_on(news.before, news.characters)
        return Piece(news.sample_index, characters, news.sample)

    def samples(self, request: Request, made: list[Sample]) -> Samples:
        """What a request is answered with."""
        return Samples(
            made,
            seed=self.vocabulary.write(request.seed),
            random_seed=request.random_seed,
            requested=request.config.count,
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.frozen.names)

    def _generate(self, requests: list[Request]) -> list[Samples]:
        samples: list[list[Any]] = [[None] * request.config.count for request in requests]
        with self._writer() as writer, blas_threads(1):
            for news in writer.write(requests, MOST_STEPS):
                if news.sample:
                    samples[news.request][news.sample_index] = news.sample
        return [self.samples(*pair) for pair in zip(requests, samples, strict=True)]

    def _stream(self, request: Request) -> Iterator[Piece]:
        for news in self._written(request):
            yield self.piece(news)

    def _written(self, request: Request) -> Iterator[Written]:
        """The news of a request's texts, as they are drawn."""
        with self._writer() as writer:
            written = writer.write([request], 1)
            while True:
                with blas_threads(1):
                    news = next(written, None)
                if news is None:
                    break
                yield news

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        """A writer of one's own: an idle one, or a new one."""
        try:
            writer = self._idle.pop()
        except IndexError:
            writer = self.writer()
        yield writer  # one that is left early isn't used again
        if len(self._idle) < IDLE_WRITERS:
            self._idle.append(writer)
