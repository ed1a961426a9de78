"""What goes on inside the network as it reads: what it expects after each symbol, its hidden units,
their gates, and a few units that go with something one can say of a name.

Such units are found by correlation. For each feature (position, vowels, the approach of the ending
that is most frequent in the list) the unit is looked for that goes with it best, over the places
of some names, and then judged on others: the correlation that is told is of names that the search
has not seen. It is still one of many units; examples/understanding/units.py says what a coin gets.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from charrnn.config import LONGEST_INSPECTED, MOST_EXPECTED, MOST_UNITS
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.model import CharRNN
from charrnn.parameters import Array
from charrnn.scoring import Expected
from charrnn.wordlist import AnyVocabulary

VOWELS = "aeiouyáàâäãåæéèêëíìîïóòôöõøœúùûüýаеёиоуыэюяαεηιουω"
STUDIED = 300  # names that are read to find units: every other one to search, the rest to judge
LONGEST_STUDIED = 40  # symbols of a name; longer ones are left out
LEAST_STUDIED = 8  # names, below which nothing is looked for
ENDINGS = range(3, 9)  # symbols of a frequent ending
LEAST_SHARE = 0.05  # of the names, that must have it
DIGITS = 3  # of an activation, as JSON has it

Feature = Callable[[str, int], float]


@dataclass(frozen=True)
class Interesting:
    """A unit that goes with a feature. correlation: Pearson's r, on names not searched."""

    feature: str
    unit: int
    correlation: float


@dataclass(frozen=True)
class Inspection:
    """What the network held before the first of T symbols and after each of them.

    symbols: the T symbols read, as the model reads them.
    expected: for each of the T + 1 places the likeliest next symbols.
    activations: (T + 1, H), the outputs of one layer, from -1 to 1.
    gates: by name (T + 1, K), of the K units asked for; sigmoids from 0 to 1.
    parts: by name (T + 1, K), the parts of their state; the first is the output.
    """

    text: str
    symbols: tuple[str, ...]
    expected: tuple[tuple[Expected, ...], ...]
    layer: int
    activations: Array
    units: tuple[int, ...]
    gates: dict[str, Array]
    parts: dict[str, Array]
    interesting: tuple[Interesting, ...]

    def to_json(self) -> dict[str, Any]:
        """As the service tells it: activations with three digits."""
        return {
            "text": self.text,
            "layer": self.layer,
            "steps": [
                {
                    "symbol": symbol,
                    "expected": [each._asdict() for each in expected],
                    "activations": row,
                }
                for symbol, expected, row in zip(
                    ("", *self.symbols), self.expected, _rounded(self.activations), strict=True
                )
            ],
            "units": [
                {
                    "unit": unit,
                    "gates": {name: _rounded(rows[:, k]) for name, rows in self.gates.items()},
                    "parts": {name: _rounded(rows[:, k]) for name, rows in self.parts.items()},
                }
                for k, unit in enumerate(self.units)
            ],
            "interesting": [
                {"feature": each.feature, "unit": each.unit, "correlation": each.correlation}
                for each in self.interesting
            ],
        }


class Inspector:
    """Looks into one network. Threads may share it; what it finds out once, it keeps."""

    def __init__(
        self, model: CharRNN, vocabulary: AnyVocabulary, names: Sequence[str] = ()
    ) -> None:
        """names: of the list that the model learned from, as it reads them."""
        self._model, self._vocabulary = model, vocabulary
        self._names = _some(names) if vocabulary.unit == "character" else []
        self._lock = Lock()

    def inspect(
        self, text: str, *, layer: int | None, units: Sequence[int] | None, expected: int
    ) -> Inspection:
        """What `Generator.inspect` returns. Raises as that does."""
        model = self._model
        layers, hidden = model.config.num_layers, model.config.hidden_size
        read, ids = self._vocabulary.read(text)
        _check_whole("expected", expected, 0, MOST_EXPECTED)
        layer = layers if layer is None else layer
        _check_whole("layer", layer, 1, layers)
        if len(ids) > LONGEST_INSPECTED:
            rule = f"must have at most {LONGEST_INSPECTED} symbols"
            raise ConfigError([FieldProblem("text", rule, str(len(ids)))])
        found = self.interesting if layer == layers else ()
        chosen = tuple(dict.fromkeys(each.unit for each in found)) if units is None else (*units,)
        if len(chosen) > MOST_UNITS:
            rule = f"must have at most {MOST_UNITS} items"
            raise ConfigError([FieldProblem("units", rule, str(len(chosen)))])
        for number, unit in enumerate(chosen):
            _check_whole(f"units.{number}", unit, 0, hidden - 1)
        logits, states, gates = model.inside(np.array([[self._vocabulary.start, *ids.tolist()]]))
        held = states[:, layer - 1, :, 0]  # (T + 1, S, H)
        opened = gates[:, layer - 1, :, 0]  # (T + 1, G, H)
        picked = list(chosen)
        return Inspection(
            self._vocabulary.write(read),
            tuple(self._vocabulary.symbols[id_] for id_ in ids.tolist()),
            tuple(self._likeliest(logits[0], expected)),
            layer,
            held[:, 0],
            chosen,
            {name: opened[:, k][:, picked] for k, name in enumerate(model.cell.gates)},
            {name: held[:, k][:, picked] for k, name in enumerate(model.cell.parts)},
            found,
        )

    def _likeliest(self, logits: Array, count: int) -> Iterator[tuple[Expected, ...]]:
        """The likeliest symbols of each row of logits (T, V)."""
        logits = logits.astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        best = np.argsort(-weights, axis=1, kind="stable")[:, :count].tolist()
        for row, ids in zip(weights, best, strict=True):
            yield tuple(Expected(self._vocabulary.symbols[k], float(row[k])) for k in ids)

    @property
    def interesting(self) -> tuple[Interesting, ...]:
        """Units of the last layer that go with something, worked out at the first use; none for
        running text.
        """
        with self._lock:  # so that two who ask at once don't both search
            return self._interesting

    @cached_property
    def _interesting(self) -> tuple[Interesting, ...]:
        if len(self._names) < LEAST_STUDIED:
            return ()
        sides = self._names[::2], self._names[1::2]
        read = [self._outputs(names) for names in sides]
        found = []
        for label, feature in _features(self._names).items():
            searched, judged = (
                _correlations(units, _values(names, feature))
                for units, names in zip(read, sides, strict=True)
            )
            unit = int(np.abs(searched).argmax())
            found.append(Interesting(label, unit, round(float(judged[unit]), DIGITS)))
        return tuple(found)

    def _outputs(self, names: Sequence[str]) -> Array:
        """The last layer's outputs after each symbol of each name, (places, H)."""
        ids = [self._vocabulary.ids_of(name) for name in names]
        padded = np.full((len(names), 1 + max(map(len, ids))), self._vocabulary.start)
        for row, own in zip(padded, ids, strict=True):
            row[1 : 1 + len(own)] = own
        _, states, _ = self._model.inside(padded)
        last = states[1:, -1, 0]  # (T, B, H), without the start symbol, which no feature is of
        return np.concatenate([last[: len(own), row] for row, own in enumerate(ids)])


def _some(names: Sequence[str]) -> list[str]:
    """Names from all over the list, none too long."""
    lengths = np.fromiter(map(len, names), np.int64)
    fit = np.flatnonzero((lengths > 0) & (lengths <= LONGEST_STUDIED))
    places = np.linspace(0, len(fit) - 1, min(len(fit), STUDIED)).astype(int)
    return [names[place] for place in fit[places].tolist()]


def _features(names: Sequence[str]) -> dict[str, Feature]:
    """What one can say of the place after symbol k of a name, as a number."""
    features: dict[str, Feature] = {
        "position in the name": lambda name, k: k + 1,
        "a vowel just read": lambda name, k: name[k].lower() in VOWELS,
        "a vowel comes next": lambda name, k: k + 1 < len(name) and name[k + 1].lower() in VOWELS,
        "the name is over": lambda name, k: k + 1 == len(name),
    }
    ending = frequent_ending(names)
    if ending:
        near = len(ending)
        features[f"the approach of -{ending}"] = lambda name, k: (
            name.endswith(ending) and len(name) - near - 2 <= k < len(name) - 2
        )
    return features


def frequent_ending(names: Sequence[str]) -> str:
    """The ending that explains most letters of a list: how many names have it, times its length
    less two. Empty where even that one is rare.
    """
    counts = Counter(name[-n:] for name in names for n in ENDINGS if len(name) > n)
    if not counts:
        return ""
    best = max(counts, key=lambda ending: (counts[ending] * (len(ending) - 2), ending))
    return best if counts[best] >= LEAST_SHARE * len(names) and counts[best] > 1 else ""


def _values(names: Sequence[str], feature: Feature) -> Array:
    """A feature at each place, (places,)."""
    return np.array([float(feature(name, k)) for name in names for k in range(len(name))])


def _correlations(units: Array, feature: Array) -> Array:
    """Pearson's r of each unit (places, H) with a feature (places,): (H,), 0 where either never
    changes.
    """
    u = units.astype(np.float64)
    u -= u.mean(axis=0)
    f = feature - feature.mean()
    scale = np.sqrt((u * u).sum(axis=0) * (f @ f))
    return np.divide(f @ u, scale, out=np.zeros(u.shape[1]), where=scale > 0)


def _rounded(values: Array) -> Any:
    """Numbers for JSON: none of 17 digits."""
    return np.round(values.astype(np.float64), DIGITS).tolist()


def _check_whole(field: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError([FieldProblem(field, f"must be from {low} to {high}", shown(value))])
