"""Which names have the shape that is asked for: a finite automaton over a vocabulary's ids.

Each condition (`ends_with`, `contains`, `pattern`, `exclude_letters`, `seed`) is an automaton of
its own; `compile_shape` takes their product, and works out from the ends which states can still
become a whole name within the lengths. So whoever follows `Shape.can` is never led into a dead end.
A condition that can't be met is an error before anything is drawn, which names the conditions that
conflict: none of those named could be left out of the conflict.
"""

import fnmatch
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import LONGEST_SHAPED, GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.parameters import Array
from charrnn.wordlist import AnyVocabulary

MOST_STATES = 4000  # of a product; a pattern of many classes behind a star can have millions
DEAD = -1  # no name of the shape begins so
FIELDS = ("ends_with", "contains", "pattern", "exclude_letters")  # those that make a shape


class TooManyStatesError(Exception):
    """The product has more states than `MOST_STATES`."""


class Automaton(NamedTuple):
    """A condition: where it starts, a step from a state by a symbol (None: no name begins so), and
    whether a name may end in a state. States are any hashable values. It doesn't tell symbols of
    one `kind` apart.
    """

    start: Hashable
    step: Callable[[Any, str], Hashable | None]
    accepts: Callable[[Any], bool]
    kind: Callable[[str], Hashable]


@dataclass(frozen=True, eq=False)
class Shape:
    """Q states over V symbols, and names of `shortest` to `longest` symbols.

    next: (Q, V) the state after a symbol, `DEAD` where no name goes on so; the end symbol's column
    is dead. accepts: (Q,) whether a name may end there, its length apart. can: (longest + 1, Q)
    whether a whole name can still follow from a state after so many symbols. `begin` and `length`
    are the state and the symbols after the seed.
    """

    next: Array
    accepts: Array
    can: Array
    shortest: int
    longest: int
    begin: int = 0
    length: int = 0

    @cached_property
    def is_of_lengths(self) -> bool:
        """Whether nothing but a name's length counts: only the end symbol is dead."""
        return len(self.next) == 1 and np.count_nonzero(self.next == DEAD) == 1

    def may_end(self, length: int) -> Array:
        """(Q,) whether a name of so many symbols may end in a state."""
        return self.accepts & (self.shortest <= length <= self.longest)

    def is_met(self, ids: Sequence[int]) -> bool:
        """Whether a whole name, without its end symbol, has the shape."""
        q = 0
        for id_ in ids:
            q = int(self.next[q, id_])
            if q == DEAD:
                return False
        return bool(self.may_end(len(ids))[q])

    def after(self, ids: Sequence[int]) -> "Shape | None":
        """The same for names that begin with these symbols; None where no name does."""
        q, length = 0, len(ids)
        for id_ in ids:
            q = int(self.next[q, id_])
            if q == DEAD:
                return None
        if length > self.longest or not self.can[length, q]:
            return None
        return replace(self, begin=q, length=length)


def compile_shape(
    config: GenerationConfig, seed: str, vocabulary: AnyVocabulary, longest: int
) -> Shape:
    """The shape that is asked for.

    Args:
        seed: as the model reads it.
        longest: symbols of a name, where `max_length` is not given.

    Raises ConfigError where no name can have it, which names the conditions that conflict, and
    where the model's symbols are not single characters, or names don't end.
    """
    asked = [field for field in FIELDS if getattr(config, field) is not None]
    if vocabulary.end is None or any(len(symbol) != 1 for symbol in vocabulary.symbols):
        field = asked[0] if asked else "model"
        rule = "needs a model of names, character by character"
        raise ConfigError([FieldProblem(field, rule, shown(getattr(config, field, "another")))])
    conditions = {
        field: _condition(field, getattr(config, field), vocabulary)
        for field in asked
        if field != "exclude_letters"
    }
    letters = vocabulary.match(config.exclude_letters or "")
    shortest = max(config.min_length, 1)
    longest = config.max_length or min(max(longest, shortest, len(seed) + 1), LONGEST_SHAPED)
    if longest > LONGEST_SHAPED:
        rule = f"must be at most {LONGEST_SHAPED} for names of a shape"
        field = "max_length" if config.max_length else "min_length"
        raise ConfigError([FieldProblem(field, rule, str(longest))])
    limits: dict[str, Any] = {name: conditions[name] for name in asked if name in conditions}
    if letters:
        limits["exclude_letters"] = letters
    if seed:
        limits["seed"] = seed
    if config.min_length > 1:
        limits["min_length"] = shortest
    limits["max_length"] = longest
    try:
        shape = _shape(limits, vocabulary)
        if shape is None:
            raise _conflict(limits, vocabulary, config, seed)
    except TooManyStatesError:
        rule = "is too complicated: write it with fewer classes and question marks behind a *"
        field = "pattern" if config.pattern else asked[0]
        raise ConfigError([FieldProblem(field, rule, shown(getattr(config, field)))]) from None
    return shape


def _conflict(
    limits: dict[str, Any], vocabulary: AnyVocabulary, config: GenerationConfig, seed: str
) -> ConfigError:
    """Which of the limits can't be met together: each in turn is left out for good where the others
    can't be met without it either.
    """
    left = dict(limits)
    for name in ("max_length", "min_length", "seed", *reversed(FIELDS)):
        if name in left:
            rest = {other: limit for other, limit in left.items() if other != name}
            if _shape(rest, vocabulary) is None:
                left = rest
    first, *others = left
    values = {**dict(config), "seed": seed, "max_length": limits["max_length"]}
    if not others:
        rule = "can't be met by any name of this model: change it"
    else:
        named = [f"{name} ({shown(values[name])})" for name in others]
        rule = f"can't be met together with {' and '.join(named)}: change one of them"
    return ConfigError([FieldProblem(first, rule, shown(values[first]))])


def _shape(limits: dict[str, Any], vocabulary: AnyVocabulary) -> Shape | None:
    """The product of all limits; None where no name meets them."""
    automata = [limit for limit in limits.values() if isinstance(limit, Automaton)]
    letters = set(limits.get("exclude_letters", ""))
    symbols = {
        id_: symbol
        for id_, symbol in enumerate(vocabulary.symbols)
        if id_ not in (vocabulary.end, vocabulary.unknown) and symbol not in letters
    }
    kinds = [tuple(each.kind(symbol) for each in automata) for symbol in symbols.values()]
    of_kinds = dict(zip(kinds, symbols.values(), strict=True))  # one symbol of each
    rows, accepts = _product(automata, list(of_kinds.values()))
    shortest = limits.get("min_length", 1)
    longest = limits.get("max_length", LONGEST_SHAPED + 1)
    can = _can(rows, accepts, shortest, longest)
    numbers = {kind: number for number, kind in enumerate(of_kinds)}
    columns = np.full(len(vocabulary), len(numbers))  # the last one is dead
    columns[list(symbols)] = [numbers[kind] for kind in kinds]
    shape = Shape(rows[:, columns], accepts, can, shortest, longest)
    return shape.after(vocabulary.encode(limits.get("seed", "")).tolist())


def _product(automata: Sequence[Automaton], symbols: Sequence[str]) -> tuple[Array, Array]:
    """The product over K symbols: (Q, K + 1) next states, the last one dead; (Q,) accepting ones.
    The start is state 0.
    """
    start = tuple(each.start for each in automata)
    numbers, states = {start: 0}, [start]
    rows: list[Array] = []
    while len(rows) < len(states):
        state, row = states[len(rows)], np.full(len(symbols) + 1, DEAD)
        for number, symbol in enumerate(symbols):
            after = tuple(each.step(q, symbol) for each, q in zip(automata, state, strict=True))
            if None in after:
                continue
            if after not in numbers:
                if len(states) == MOST_STATES:
                    raise TooManyStatesError
                numbers[after] = len(states)
                states.append(after)
            row[number] = numbers[after]
        rows.append(row)
    accepts = [
        all(each.accepts(q) for each, q in zip(automata, state, strict=True)) for state in states
    ]
    return np.stack(rows), np.array(accepts)


def _can(rows: Array, accepts: Array, shortest: int, longest: int) -> Array:
    """(longest + 1, Q): whether a whole name can follow, from the longest lengths back."""
    can = np.zeros((longest + 1, len(rows)), bool)
    following = np.zeros(len(rows) + 1, bool)  # the last one for DEAD
    for length in range(longest, -1, -1):
        can[length] = following[rows].any(axis=1)
        if length >= shortest:
            can[length] |= accepts
        following[:-1] = can[length]
    return can


def _condition(field: str, value: str, vocabulary: AnyVocabulary) -> Automaton:
    """The automaton of a condition. Raises ConfigError for characters that the model lacks."""
    text = vocabulary.match(value)
    if field == "pattern":
        parts = tokens(text)
        literals = [part for part in parts if len(part) == 1 and part not in "*?"]
        _check_known(field, value, literals, vocabulary)
        return glob(parts, set(vocabulary.known_characters))
    _check_known(field, value, text, vocabulary)
    return ending(text) if field == "ends_with" else containing(text)


def _check_known(
    field: str, value: str, characters: Sequence[str], vocabulary: AnyVocabulary
) -> None:
    known = vocabulary.known_characters
    unknown = next((each for each in characters if each not in known), None)
    if unknown is not None:
        rule = f"must have only characters that this model knows, {known!r}; it has {unknown!r}"
        raise ConfigError([FieldProblem(field, rule, shown(value))])


def _overlap(text: str) -> Callable[[int, str], int]:
    """How many characters of `text` stand at the end, after one more (Knuth, Morris & Pratt
    1977).
    """
    steps: dict[tuple[int, str], int] = {}

    def step(matched: int, symbol: str) -> int:
        key = matched, symbol
        if key not in steps:
            seen = text[:matched] + symbol
            size = min(len(text), len(seen))
            while not text.startswith(seen[len(seen) - size :]):
                size -= 1
            steps[key] = size
        return steps[key]

    return step


def ending(text: str) -> Automaton:
    """Names that end with a text."""
    return Automaton(0, _overlap(text), lambda matched: matched == len(text), _own(text))


def containing(text: str) -> Automaton:
    """Names in which a text stands."""
    step, whole = _overlap(text), len(text)
    return Automaton(
        0,
        lambda q, symbol: whole if q == whole else step(q, symbol),
        lambda q: q == whole,
        _own(text),
    )


def _own(text: str) -> Callable[[str], str | None]:
    """Each symbol of a text is a kind of its own; all others are another."""
    return lambda symbol: symbol if symbol in text else None


def tokens(pattern: str) -> list[str]:
    """A shell-style pattern in parts: "*", "?", "[...]" as a whole, or a character. A bracket that
    isn't closed is a character, as in `fnmatch`; [^...] is [!...], as in most shells.
    """
    parts, place = [], 0
    while place < len(pattern):
        end = place + 1
        if pattern[place] == "[":
            first = place + 1 + pattern.startswith(("!", "^"), place + 1)
            closing = pattern.find("]", first + pattern.startswith("]", first))
            if closing >= 0:
                end = closing + 1
        part = pattern[place:end]
        parts.append("[!" + part[2:] if len(part) > 1 and part.startswith("[^") else part)
        place = end
    return parts


def glob(parts: Sequence[str], known: set[str]) -> Automaton:
    """Names that a pattern, in parts, matches as a whole, as `fnmatch.fnmatchcase` has it.

    A state is the set of places in the pattern where one may stand.
    """
    allowed: list[set[str] | None] = []
    for part in parts:
        if part == "*":
            allowed.append(None)
        elif part == "?":
            allowed.append(known)
        elif len(part) > 1:
            matches = re.compile(fnmatch.translate(part)).match
            allowed.append({symbol for symbol in known if matches(symbol)})
        else:
            allowed.append({part})

    def closed(places: set[int]) -> frozenset[int]:
        reached = set()
        for place in places:
            reached.add(place)
            while place < len(parts) and allowed[place] is None:
                place += 1
                reached.add(place)
        # Behind the last star that is reached, all that lies before it adds nothing.
        stars = [place for place in reached if place < len(parts) and allowed[place] is None]
        return frozenset(place for place in reached if place >= max(stars, default=0))

    def step(places: frozenset[int], symbol: str) -> frozenset[int] | None:
        after = set()
        for place in places:
            if place < len(parts):
                here = allowed[place]
                if here is None:
                    after.add(place)
                elif symbol in here:
                    after.add(place + 1)
        return closed(after) if after else None

    def kind(symbol: str) -> Hashable:
        return tuple(here is None or symbol in here for here in allowed)

    return Automaton(closed({0}), step, lambda places: len(parts) in places, kind)
