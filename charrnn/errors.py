"""The one tree of exceptions. A message names the thing, the rule, the value and the next step."""

from collections.abc import Sequence
from typing import Any, NamedTuple


def shown(value: Any) -> str:
    """A value as an error shows it: its repr, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of too many digits"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


class CharRNNError(Exception):
    """Whatever this library refuses. Catch it to catch them all."""


class FieldProblem(NamedTuple):
    """One field that broke one rule: what a command line prints and an HTTP answer lists."""

    field: str
    rule: str
    value: str
    line: int | None = None  # of the recipe that it stands in

    def __str__(self) -> str:
        return f"{self.field} {self.rule}, got {self.value}"


class ConfigError(CharRNNError, ValueError):
    """A setting, argument or recipe that breaks a rule of `charrnn.config`."""

    def __init__(self, problems: Sequence[FieldProblem], where: str = "") -> None:
        self.problems = tuple(problems)
        self.where = where
        texts = [str(problem) for problem in self.problems]
        if where:
            places = [f"{where}:{p.line}" if p.line else where for p in self.problems]
            texts = [f"{place}: {text}" for place, text in zip(places, texts, strict=True)]
            if len(set(places)) == 1:  # it need not be said twice
                texts[1:] = map(str, self.problems[1:])
        super().__init__("; ".join(texts))


class CorpusError(CharRNNError):
    """Training data that can't be read, or that is too small to learn from."""


class UnknownCharacterError(CharRNNError, ValueError):
    """A text holds a character that the model has never seen."""

    def __init__(self, character: str, position: int, known: str) -> None:
        self.character = character
        self.position = position
        self.known = known
        super().__init__(
            f"character {character!r} (U+{ord(character):04X}) at position {position} is unknown "
            f"to this model; it knows {known!r}"
        )


class TrainingError(CharRNNError):
    """A training run that can't go on: a loss that is not finite, a checkpoint of another run."""


class TrainingInterrupted(CharRNNError):  # noqa: N818  not a fault: it was asked for
    """A run that was asked to stop. Its checkpoint is saved; the same command goes on from it."""


class WeightsError(CharRNNError):
    """A weights file that can't be used. Its children say why."""


class WeightsMissingError(WeightsError):
    """There is no such weights file, model or version."""


class WeightsCorruptError(WeightsError):
    """The bytes are not those that were written: truncated, altered, or no weights file at all."""


class WeightsFormatError(WeightsError):
    """The bytes are whole, but they don't describe a network that this version can load."""


class PromotionError(CharRNNError):
    """A model's live version can't be changed as asked."""


class LockedError(CharRNNError):
    """Another process is at work on the same model."""
