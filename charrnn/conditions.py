"""What a whole text must be to be kept: novel, not on the caller's own list, not too like a name of
the training list, fit to print, of the shape that is asked for.

Texts are compared as the model reads them (NFC, and without capitals where it learned without).
Each condition only refuses: a text that is drawn again until it is kept is a draw from the
network's distribution given that all conditions hold.
"""

from collections.abc import Container, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from charrnn.blocklist import Blocklist
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.namelist import NameList, in_chunks
from charrnn.shapes import Shape
from charrnn.wordlist import AnyVocabulary


class Names:
    """The list that a model learned from and was tested on, to be compared with."""

    def __init__(self, names: Sequence[str]) -> None:
        self.ordered = names
        self.all: Container[str] = names if isinstance(names, NameList) else frozenset(names)

    @cached_property
    def _scorer(self) -> Any:
        from rapidfuzz.distance import Levenshtein  # only where it is asked for

        return Levenshtein.normalized_similarity

    def nearest(self, text: str) -> float:
        """The Levenshtein distance to the nearest name of the list over the longer one's length:
        from 0, in the list, to 1, nothing in common, or an empty list.
        """
        from rapidfuzz import process

        found = (
            process.extractOne(text, some, scorer=self._scorer)[1]
            for some in in_chunks(self.ordered)
        )
        return 1.0 - float(max(found, default=0.0))

    def are_near(self, text: str, similarity: float) -> bool:
        """Whether a name of the list is more like a text than this: 1 - Levenshtein distance / the
        longer one's length.
        """
        from rapidfuzz import process

        for some in in_chunks(self.ordered):
            best = process.extractOne(text, some, scorer=self._scorer, score_cutoff=similarity)
            if best is not None and best[1] > similarity:
                return True
        return False


class Conditions(NamedTuple):
    """The conditions of a request. `unique` is kept by who sees all its texts; the others here."""

    names: Names | None = None  # to be novel to
    unique: bool = False
    avoid: frozenset[str] = frozenset()
    max_similarity: float | None = None
    blocklist: Blocklist | None = None
    shape: Shape | None = None
    vocabulary: AnyVocabulary | None = None
    listed: Names | None = None  # whose nearest name counts

    def refusal(self, text: str, ends: bool) -> str | None:
        """The setting that refuses a text as the model reads it; None for one that is kept. `ends`:
        the network ended it.
        """
        if self.shape and not (ends and self._has_shape(text, self.shape)):
            return "the shape"
        if self.names and text in self.names.all:
            return "novel"
        if self.avoid and text.casefold() in self.avoid:
            return "avoid"
        if self.blocklist and self.blocklist.refuses(text):
            return "clean"
        most = self.max_similarity
        if most is not None and self.listed and self.listed.are_near(text, most):
            return "max_similarity"
        return None

    def _has_shape(self, text: str, shape: Shape) -> bool:
        if shape.is_of_lengths:
            return shape.shortest <= len(text) <= shape.longest
        assert self.vocabulary
        return shape.is_met(self.vocabulary.encode(text).tolist())


def conditions_of(
    config: GenerationConfig,
    vocabulary: AnyVocabulary,
    names: Names | None,
    blocklist: Blocklist,
    shape: Shape | None,
) -> Conditions | None:
    """The conditions on whole texts that a request has; None where it has none.

    Args:
        names: the model's list; None for running text.

    Raises ConfigError for what only a list of names can be asked for.
    """
    if names is None:
        for field in ("novel", "unique", "avoid", "max_similarity"):
            value = getattr(config, field)
            if value not in (None, False, ()):
                rule = "must be left out: this model writes running text, not names"
                raise ConfigError([FieldProblem(field, rule, shown(value))])
        return None
    avoid = frozenset(vocabulary.match(text.strip()).casefold() for text in config.avoid)
    made = Conditions(
        names=names if config.novel is not False else None,
        unique=config.unique is not False,
        avoid=avoid,
        max_similarity=config.max_similarity,
        blocklist=blocklist if config.clean else None,
        shape=shape,
        vocabulary=vocabulary,
        listed=names,
    )
    none = not (made.names or made.unique or avoid or made.blocklist or shape)
    return None if none and config.max_similarity is None else made
