"""A conversation with a network that learned from conversations: turns in, replies out.

The network's state is kept from turn to turn, so a turn costs its own characters, however long the
talk has been. What a person types is mapped to what the model knows by a fixed rule (`heard`), and
is never an error. How replies are drawn is the writer's business.
"""

import base64
import binascii
import math
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from charrnn.compiled import CompiledModel, Position
from charrnn.config import (
    CHAT_TEMPERATURE,
    FIRST_SHARED_SEED,
    LONGEST_HISTORY,
    LONGEST_REPLY,
    LONGEST_TURN,
    PERSON,
    GenerationConfig,
)
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.parameters import Array
from charrnn.texts import Request, Written
from charrnn.threads import blas_threads
from charrnn.vocabulary import Vocabulary

TURN_END = "\n"  # ends a line, and so a reply
NOTHING = "?"  # stands for a turn of which nothing is left
CHAT_DEFAULTS = {"temperature": CHAT_TEMPERATURE, "max_length": LONGEST_REPLY}
FORMAT = 1  # of what `save` gives
MORE_RANDOM_SEEDS = 1_000_003  # from a chat's random seed to that of each turn
_PLAIN = str.maketrans({"’": "'", "‘": "'", "‚": "'", "–": "-", "—": "-", "‐": "-", "‑": "-"})

Turn = tuple[str, str]  # what a person said, and the reply


def heard(text: str, vocabulary: Vocabulary) -> str:
    """A person's line as the model reads it: at most `LONGEST_TURN` characters, at least one.

    After Unicode NFC each character is taken as it is where the model knows it; else in lower case;
    else without its accents (NFKD), in lower case if need be; else it is left out. Curly quotes and
    long dashes count as plain ones; lines are joined, and spaces too, by one space each. The mark
    that begins a person's line doesn't stand within it. Raises ConfigError for what is no text.
    """
    if not isinstance(text, str):
        raise ConfigError([FieldProblem("text", "must be text", shown(text))])
    known = frozenset(vocabulary.known_characters) - {TURN_END, PERSON[0]}
    # A character of NFC or NFKD comes from so few of what was typed that this is enough to look at.
    typed = unicodedata.normalize("NFC", text[: 8 * LONGEST_TURN])
    kept = "".join([_taken(character, known) for character in typed])
    line = " ".join(kept.split())[:LONGEST_TURN].strip()
    return line or (NOTHING if NOTHING in known else min(known - {" "}, default=" "))


def _taken(character: str, known: frozenset[str]) -> str:
    """What the model reads in place of a character."""
    if character in known:
        return character
    if character.isspace():
        return " "
    plain = unicodedata.normalize("NFKD", character.translate(_PLAIN))
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    for way in (character.translate(_PLAIN), character.lower(), bare, bare.lower()):
        if way and all(c in known for c in way):
            return way
    return ""


def transcript(turns: Sequence[Turn], text: str, vocabulary: Vocabulary) -> str:
    """Whole turns as the model reads them, each of them two lines, and a person's next one. Of
    the turns as many of the last as have `LONGEST_HISTORY` characters at most.
    """
    kept, room = [_lines(text, vocabulary)], LONGEST_HISTORY
    for person, reply in reversed(turns):
        lines = _lines(person, vocabulary, reply)
        room -= len(lines)
        if room < 0:
            break
        kept.append(lines)
    return "".join(reversed(kept))


def _lines(person: str, vocabulary: Vocabulary, reply: str | None = None) -> str:
    """A person's line, and the reply's where there is one."""
    asked = f"{PERSON}{heard(person, vocabulary)}{TURN_END}"
    return asked if reply is None else f"{asked}{heard(reply, vocabulary)}{TURN_END}"


def chat_config(settings: Mapping[str, Any]) -> GenerationConfig:
    """The settings of a chat: those of GenerationConfig but for count, with a temperature and a
    longest reply of its own. Raises ConfigError.
    """
    config = GenerationConfig.checked({**CHAT_DEFAULTS, **settings})
    if config.count != 1:
        raise ConfigError([FieldProblem("count", "must be 1 in a chat", str(config.count))])
    refuse_least(config)
    return config


def refuse_least(config: GenerationConfig) -> None:
    """Raises ConfigError where replies were to have a least length."""
    if config.min_length:
        rule = "must be left out in a chat: a reply ends with its line"
        raise ConfigError([FieldProblem("min_length", rule, str(config.min_length))])


class SomethingFirst:
    """No reply is empty, or a person's line: what is drawn first is neither a line's end, nor a
    space, nor the mark of the person.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        refused = [symbol.isspace() or symbol == PERSON[0] for symbol in vocabulary.symbols]
        self._first = ~np.array(refused)  # (V,)

    def start(self) -> bool:
        return True

    def allowed(self, q: bool) -> Array | None:
        return self._first if q else None

    def advance(self, q: bool, id_: int) -> bool:
        return False


def as_reply(
    request: Request, vocabulary: Vocabulary, prompt: list[int], position: Position | None = None
) -> Request:
    """A request for what follows a person's line. `position`: where it begins, with the first of
    `prompt` as its symbol; None for the zero state.
    """
    longest = len(prompt) - 1 + (request.config.max_length or LONGEST_REPLY)  # the prompt counts
    return request._replace(
        prompt=prompt,
        position=position,
        constraint=SomethingFirst(vocabulary),
        max_length=longest,
        stop=tuple(dict.fromkeys((*request.stop, TURN_END))),
    )


class Chat:
    """A conversation. `say` and `stream` take turns; between them it is what `save` gives.

    Threads may share it: they take turns, each waiting until the other's reply is whole. A new turn
    ends a stream that is still being read, whose reply then ends where it stood.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: CompiledModel,
        vocabulary: Vocabulary,
        request: Callable[[GenerationConfig], Request],
        write: Callable[[Request], Iterator[Written]],
        config: GenerationConfig,
    ) -> None:
        """request: checks settings; write: draws the texts of a request, piece by piece."""
        self.name, self.version = name, version
        self._model, self._vocabulary = model, vocabulary
        self._request, self._write = request, write
        self._lock = threading.RLock()  # a forgotten stream may end while its thread holds it
        self._open: _Reply | None = None
        self._config = config
        self.random_seed = request(config).random_seed
        self.turns = 0
        self._position = model.start(vocabulary.start)

    @property
    def temperature(self) -> float:
        """How daring the replies are."""
        return self._config.temperature

    def change(self, **settings: Any) -> None:
        """Other settings from the next reply on, as `Generator.chat` takes them. A random_seed
        counts from the turn at hand. Raises ConfigError.
        """
        with self._lock:
            changed = chat_config({**self._config.said(), **settings})
            seed = self._request(changed).random_seed  # checks the rest, too
            self._config = changed
            if "random_seed" in settings:
                self.random_seed, self.turns = seed, 0

    def say(self, text: str) -> str:
        """The reply to what a person says, whatever it holds.

        Raises ConfigError where it is no text.
        """
        with self._lock:
            reply = self._begin(text)
            return "".join(self._pieces(reply))

    def stream(self, text: str) -> Iterator[str]:
        """`say`, piece by piece. A stream that is closed early ends the reply where it stands, and
        that is what the network remembers to have said.
        """
        with self._lock:
            reply = self._begin(text)
        return self._pieces(reply)

    def reset(self) -> None:
        """Forget the talk; settings stay, and the random numbers begin anew."""
        with self._lock:
            self._end_open()
            self._position = self._model.start(self._vocabulary.start)
            self.turns = 0

    def save(self) -> dict[str, Any]:
        """All that goes on, ready for JSON: settings, random seed, and the network's state."""
        with self._lock:
            self._end_open()
            state = np.ascontiguousarray(self._position.state, "<f4")
            return {
                "format": FORMAT,
                "model": self.name,
                "version": self.version,
                "settings": {name: _plain(value) for name, value in self._config.said().items()},
                "random_seed": self.random_seed,
                "turns": self.turns,
                "last": self._vocabulary.symbols[self._position.id],
                "state": base64.b64encode(state.tobytes()).decode(),
            }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on where `save` was called. Raises ConfigError for anything else, or where another
        version of the model gave it; nothing has changed then.
        """
        config, seed, turns, position = self._read_saved(saved)
        with self._lock:
            self._end_open()
            self._config, self.random_seed, self.turns = config, seed, turns
            self._position = position

    def _begin(self, text: str) -> "_Reply":
        """Read a person's line, and be ready to draw the reply."""
        asked = self._vocabulary.ids_of(_lines(text, self._vocabulary)).tolist()
        self._end_open()
        request = self._request(self._config)
        seed = (self.random_seed + self.turns * MORE_RANDOM_SEEDS) % FIRST_SHARED_SEED
        with blas_threads(1):
            position = self._read(self._position, asked)
        request = as_reply(request, self._vocabulary, [position.id], position)
        request = request._replace(random_seed=seed)
        self._position = position
        self._open = _Reply(self._write(request))
        return self._open

    def _pieces(self, reply: "_Reply") -> Iterator[str]:
        try:
            while True:
                with self._lock:
                    news = next(reply.news, None) if self._open is reply else None
                    if news is not None:
                        reply.said.append(news.characters)
                if news is None:
                    break
                if news.characters:
                    yield self._vocabulary.write_on(news.before, news.characters)
        finally:
            with self._lock:
                if self._open is reply:
                    self._end_open()

    def _end_open(self) -> None:
        """Let the open reply end where it stands: the network reads what it has said."""
        reply, self._open = self._open, None
        if reply is None:
            return
        said = "".join(reply.said) + TURN_END
        with blas_threads(1):
            self._position = self._read(self._position, self._vocabulary.ids_of(said).tolist())
        self.turns += 1

    def _read(self, position: Position, ids: list[int]) -> Position:
        return self._model.read([position.id, *ids], position.state)

    def _read_saved(self, saved: Any) -> tuple[GenerationConfig, int, int, Position]:
        try:
            if saved["format"] != FORMAT:
                raise ValueError(f"its format must be {FORMAT}, got {shown(saved['format'])}")
            ours, theirs = (self.name, self.version), (saved["model"], saved["version"])
            if ours != theirs:
                raise ValueError(f"it is of {' '.join(map(str, theirs))}, not of {' '.join(ours)}")
            config = chat_config(saved["settings"])
            seed, turns, last = saved["random_seed"], saved["turns"], saved["last"]
            if not (type(seed) is type(turns) is int and min(seed, turns) >= 0):
                raise ValueError("its random_seed and turns must be whole numbers from 0")
            blank = self._model.start(self._vocabulary.start).state
            data = base64.b64decode(saved["state"], validate=True)
            state = np.frombuffer(data, "<f4").astype(blank.dtype)
            if state.size != blank.size or not all(map(math.isfinite, state.tolist())):
                raise ValueError(f"its state must be {blank.size} finite numbers")
            (id_,) = self._vocabulary.ids_of(last).tolist()
            return config, seed, turns, self._model.start(id_, state.reshape(blank.shape))
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            problem = FieldProblem("saved", f"must be what a chat's save() gave ({why})", "")
            raise ConfigError([problem]) from None


class _Reply:
    """A reply that is being drawn: its news, and what of it has been said."""

    def __init__(self, news: Iterator[Written]) -> None:
        self.news = news
        self.said: list[str] = []


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
