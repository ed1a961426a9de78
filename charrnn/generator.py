"""The library's front door: load a frozen model, then generate, stream and score.

generator = charrnn.load("dinosaurs")
for sample in generator.generate("Tyr", count=5):
    print(sample.text, sample.logprob)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.asking import Asking
from charrnn.blocklist import Blocklist
from charrnn.chat import Chat, as_reply, chat_config, refuse_least, transcript
from charrnn.compiled import CompiledModel
from charrnn.config import (
    EXPECTED,
    LONGEST_TEXT,
    MOST_EXPECTED,
    BeamConfig,
    GenerationConfig,
)
from charrnn.decoding import MOST_STEPS
from charrnn.errors import ConfigError, FieldProblem, WeightsFormatError, shown
from charrnn.model import CharRNN, count_parameters
from charrnn.scoring import Score, Scoring
from charrnn.spelling import Speller
from charrnn.store import SHORT_VERSION, SUFFIX, Store
from charrnn.texts import Language, Request, Sample, Written
from charrnn.threads import blas_threads
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel, from_bytes, read_file, sha256_of
from charrnn.writing import Writer

if TYPE_CHECKING:  # what few ask for is imported when it is asked for
    from charrnn.inspection import Inspection, Inspector

IDLE_WRITERS = 4  # kept for the next requests
BRIEF_SYMBOLS, BRIEF_BYTES = 64, 1 << 20  # of a text, of the matrices that a step reads
LONG_BYTES = 10_000_000_000  # of matrices read: no cache gives more than some 40 GB a second
CHECKED_SYMBOLS = 4  # read to see whether a network computes
CHAT_END = "\n\n"  # of a whole conversation
MANY = 8  # requests, from which on the first text of each is as well off among the others
TEXT_LENGTH = 500  # default max_length of running text, characters
SENTENCE_LENGTH = 100  # and of a sentence, words


def preload() -> None:
    """Import what is else imported when it is asked for: before a fork, so that all share it."""
    from charrnn import beam, coldest, drafting, inspection  # noqa: F401


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
        full = sha256_of(data)
        if version is not None and not (version and full.startswith(version.lower())):
            rule = f"must be left out with a file, which is version {full[:SHORT_VERSION]}"
            raise ConfigError([FieldProblem("version", rule, shown(version))])
        return Generator(path.stem, full, from_bytes(data, str(path)))
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
        self.blocklist = Blocklist.shipped()
        self._idle: list[Writer] = []

    @cached_property
    def compiled(self) -> CompiledModel:
        """The network in the form that generation runs."""
        return CompiledModel(self.model, self.vocabulary.unknown)

    def check(self) -> None:
        """Raises WeightsFormatError where the network's logits are no numbers: its weights are, but
        so large that products of them are not.
        """
        symbols = range(min(len(self.vocabulary), CHECKED_SYMBOLS))
        with np.errstate(all="ignore"):
            finite = all(np.isfinite(logits).all() for logits in self.compiled.logits(symbols))
        if not finite:
            raise WeightsFormatError(
                f"model {self.name}, version {self.version}: its logits are not finite, so nothing "
                "can be drawn by them; train it again"
            )

    @property
    def known_characters(self) -> str:
        """The characters that a seed may hold, as the model reads them; none of a model that reads
        words, or has an unknown symbol, is refused.
        """
        return self.vocabulary.known_characters

    @cached_property
    def default_max_length(self) -> int:
        """Twice the longest name of the list; for running text 500 characters, or 100 words."""
        if self.vocabulary.unit == "word":
            return SENTENCE_LENGTH
        longest = max(map(len, self.frozen.names), default=0)
        return min(2 * longest, LONGEST_TEXT) if longest else TEXT_LENGTH

    def card(self) -> dict[str, Any]:
        """What the model is and what it learned from, ready for JSON."""
        config, provenance = self.frozen.config, self.frozen.provenance
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.frozen.kind,
            "unit": self.vocabulary.unit,
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
        if len(checked) >= MANY:
            checked = [request.among_others() for request in checked]
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
        return Chat(
            self.name,
            self.version,
            self.compiled,
            self._vocabulary_of_chats(),
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
        vocabulary = self._vocabulary_of_chats()
        refuse_least(config)
        read = transcript(turns, text, vocabulary)
        prompt = [vocabulary.start, *vocabulary.ids_of(read).tolist()]
        return as_reply(self.request("", config), vocabulary, prompt)

    def _vocabulary_of_chats(self) -> Vocabulary:
        if self.frozen.kind != "chat" or not isinstance(self.vocabulary, Vocabulary):
            rule = "must be one that learned from conversations, as rex is"
            raise ConfigError([FieldProblem("model", rule, f"{self.name}, of {self.frozen.kind}")])
        return self.vocabulary

    def beam(
        self,
        seed: str = "",
        *,
        config: BeamConfig | None = None,
        goes_on: Callable[[], bool] = lambda: True,
        **settings: Any,
    ) -> Samples:
        """The `count` most probable names that begin with `seed`, in falling order, and none left
        out that is likelier: at temperature 1, of those that meet all conditions.

        Args:
            seed, config: as in `generate`, of a BeamConfig.
            goes_on: asked now and then; False ends the search with what is proven by then.

        Raises as `generate` does. A search that would take too much ends early: the samples'
        `shortfall` says so. Nothing is drawn: random_seed is 0.
        """
        from charrnn.beam import search, shortfall

        _check_text("seed", seed)
        asked = config or BeamConfig.checked(settings)
        read, _ = self.vocabulary.read(seed)
        request = self.request(seed, asked.generation())
        conditions, shape = self._asking.for_search(request, self.blocklist)
        end = self.vocabulary.end
        assert end is not None

        def keeps(ids: tuple[int, ...]) -> bool:
            return conditions.refusal(read + self.vocabulary.decode(ids), ends=True) is None

        with blas_threads(1):
            found = search(
                self.compiled,
                request.prompt,
                end,
                shape,
                count=asked.count,
                keeps=keeps,
                goes_on=goes_on,
            )
        names = self._asking.names
        language = Language(self.vocabulary, names.all if names else None)
        made = [
            language.sample(read + self.vocabulary.decode(ids), logprob, "end")
            for ids, logprob in found.names
        ]
        samples = self.samples(request, made, shortfall(found, asked.count))
        samples.random_seed = 0
        return samples

    def score(self, text: str, *, expected: int = EXPECTED) -> Score:
        """How likely the model finds a text; each of its symbols with so many that were expected
        there. Raises UnknownCharacterError, and ConfigError for a text too long or with nothing to
        score.
        """
        return self.score_many([text], expected=expected)[0]

    def score_many(self, texts: Sequence[str], *, expected: int = EXPECTED) -> list[Score]:
        """`score` of many texts, sooner. Raises as that does."""
        read = []
        for text in texts:
            _check_text("text", text)
            matched, ids = self.vocabulary.read(text)
            if not 1 <= len(ids) + (self.vocabulary.end is not None) <= LONGEST_TEXT:
                rule = f"must have from 1 to {LONGEST_TEXT} symbols"
                raise ConfigError([FieldProblem("text", rule, shown(text))])
            read.append(matched)
        if type(expected) is not int or not 0 <= expected <= MOST_EXPECTED:
            rule = f"must be from 0 to {MOST_EXPECTED}"
            raise ConfigError([FieldProblem("expected", rule, shown(expected))])
        with blas_threads(1):
            return self._scoring.scores(read, expected)

    @cached_property
    def _scoring(self) -> Scoring:
        names = self.frozen.names if self.frozen.kind == "names" else None
        return Scoring(self.compiled, self.vocabulary, names)

    def inspect(
        self,
        text: str = "",
        *,
        layer: int | None = None,
        units: Sequence[int] | None = None,
        expected: int = EXPECTED,
    ) -> "Inspection":
        """What the network holds as it reads a text, and expects after each of its T symbols.

        Args:
            text: matched after NFC and the model's case rule; may be empty.
            layer: from 1; None for the last.
            units: at most 16 of its units (from 0) whose gates are told as well; None for those
                that go with something one can say of a name.
            expected: how many of the likeliest next symbols are told for each place.

        Returns arrays whose first row is before the first symbol: `activations` (T + 1, H), and
        `gates` and `parts` by name, (T + 1, K) for K units. Raises UnknownCharacterError and
        ConfigError. Works by the network's plain form, so last bits may differ from `score`.
        """
        _check_text("text", text)
        with blas_threads(1):
            return self._inspector.inspect(text, layer=layer, units=units, expected=expected)

    @cached_property
    def _inspector(self) -> "Inspector":
        from charrnn.inspection import Inspector

        names = self.frozen.names if self.frozen.kind == "names" else ()
        return Inspector(self.model, self.vocabulary, names)

    def request(
        self, seed: str = "", config: GenerationConfig | None = None, **settings: Any
    ) -> Request:
        """A checked call of `generate`, for a `writer`. Arguments and errors as there."""
        _check_text("seed", seed)
        return self._asking.request(seed, config, settings, self.blocklist)

    def speller(self, request: Request, *, from_start: bool = False) -> Speller:
        """What tells how likely each character of a request's texts was: after the prompt, or all
        of them. Of a model of characters only.
        """
        assert request.position is None
        assert isinstance(self.vocabulary, Vocabulary)
        opening = request.prompt[:1] if from_start else request.prompt
        return Speller(self.compiled, self.vocabulary, opening)

    def length(self, text: str) -> int:
        """How many symbols a text has: characters, or words and marks."""
        return self.vocabulary.length(text)

    def writer(self) -> Writer:
        """What writes the texts of many requests together, for who steps it himself: within
        `blas_threads(1)`, without which the same seed may give other texts.
        """
        try:
            writer = self._idle.pop()
            writer.renew()
            return writer
        except IndexError:
            names = self._asking.names
            return Writer(self.compiled, Language(self.vocabulary, names.all if names else None))

    def keep(self, writer: Writer) -> None:
        """Have a writer ready for the next request, one of this generator's that writes nothing."""
        if len(self._idle) < IDLE_WRITERS:
            self._idle.append(writer)

    @property
    def many(self) -> int:
        """So many texts at once are better off sharing products, on this machine."""
        return self.compiled.many

    def is_brief(self, request: Request) -> bool:
        """Whether a request is written sooner than it can be handed to another thread: one short
        text of a small network, of no rare shape.
        """
        symbols = request.max_length - request.seed_length
        return (
            request.config.count == 1
            and max(symbols, len(request.prompt)) <= BRIEF_SYMBOLS
            and (not request.conditions or request.tries[0] > 0)
            and self.compiled.matrix_bytes <= BRIEF_BYTES
        )

    def is_long(self, request: Request) -> bool:
        """Whether a request's texts take a quarter of a second, or more, wherever they run."""
        symbols = request.config.count * (request.max_length - request.seed_length)
        return symbols * self.compiled.matrix_bytes >= LONG_BYTES

    def piece(self, news: Written) -> Piece:
        """News of a text as a stream shows it."""
        characters = self.vocabulary.write_on(news.before, news.characters)
        return Piece(news.sample_index, characters, news.sample)

    def samples(
        self, request: Request, made: list[Sample], shortfall: str | None = None
    ) -> Samples:
        """What a request is answered with."""
        samples = Samples(
            made,
            seed=self.vocabulary.write(request.seed),
            random_seed=request.random_seed,
            requested=request.config.count,
        )
        samples.shortfall = shortfall
        return samples

    @cached_property
    def _asking(self) -> Asking:
        names = self.frozen.names if self.frozen.kind == "names" else None
        stop = (CHAT_END,) if self.frozen.kind == "chat" else ()
        return Asking(self.vocabulary, names, self.default_max_length, stop)

    def _generate(self, requests: list[Request]) -> list[Samples]:
        made: list[list[Any]] = [[None] * request.config.count for request in requests]
        with self._writer() as writer, blas_threads(1):
            for news in writer.write(requests, MOST_STEPS):
                if news.sample:
                    made[news.request][news.sample_index] = news.sample
            why = [writer.take_shortfall(number) for number in range(len(requests))]
        whole = [[sample for sample in samples if sample] for samples in made]
        return [self.samples(*each) for each in zip(requests, whole, why, strict=True)]

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
        writer = self.writer()
        yield writer  # one that is left early isn't used again
        self.keep(writer)
