"""From a call to a request: what it asks for, checked; of names also their shape and conditions,
compiled, and how they are met.

Which way a name of a shape is drawn follows from the request and the model alone: freely, until one
has the shape, where a free name has it often enough (then the draw is exact), else by drafts
(`charrnn.particles`), which come at the price of about one and a half times as many free names as
there are drafts. At temperature 0 nothing is drawn: the names that are then left are searched for
(`charrnn.coldest`).
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from charrnn.blocklist import Blocklist
from charrnn.conditions import Conditions, Names, conditions_of
from charrnn.config import FIRST_SHARED_SEED, LONGEST_SHAPED, LONGEST_TEXT, GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.lookahead import LetterRuns, Lookahead
from charrnn.shapes import FIELDS, Shape, compile_shape
from charrnn.texts import Request
from charrnn.wordlist import AnyVocabulary

MOST_TRIES = 1000  # of a name that is drawn freely
MOST_SWARMS = 8  # of a name that is drawn by drafts
# Free names before drafts take over: so many times as many as it takes on average, and no fewer
PATIENCE, FEWEST_TRIES = 4, 64  # than this, since names are refused for being alike, too
KEPT = 16  # lookaheads, for requests like those before


class Asking:
    """The part of a model that conditions are compiled with. Threads may share it."""

    def __init__(
        self,
        vocabulary: AnyVocabulary,
        names: Sequence[str] | None,
        longest: int,
        stop: tuple[str, ...] = (),
    ) -> None:
        """names: None for running text. longest: symbols of a text by default. stop: strings that
        all texts end with, besides those that are asked for.
        """
        self.names = Names(names) if names is not None else None
        self._vocabulary, self._longest, self._stop = vocabulary, longest, stop
        self._kept: dict[tuple[object, ...], Lookahead] = {}

    @cached_property
    def _runs(self) -> LetterRuns:
        assert self.names
        return LetterRuns(self.names.ordered, self._vocabulary)

    def request(
        self,
        seed: str,
        config: GenerationConfig | None,
        settings: Mapping[str, Any],
        blocklist: Blocklist,
    ) -> Request:
        """A checked call of `Generator.generate`. Arguments and errors as there."""
        if config is None:
            config = GenerationConfig.checked(settings)
        elif not isinstance(config, GenerationConfig):
            raise ConfigError([FieldProblem("config", "must be a GenerationConfig", shown(config))])
        elif settings:
            config = config.changed(**settings)
        seed, ids = self._vocabulary.read(seed)
        if len(seed) > LONGEST_TEXT:
            rule = f"must have at most {LONGEST_TEXT} characters"
            raise ConfigError([FieldProblem("seed", rule, shown(seed))])
        max_length = self._max_length(len(ids), config)
        random_seed = config.random_seed
        if random_seed is None:
            random_seed = secrets.randbelow(FIRST_SHARED_SEED)
            if config.count > 1:  # all but the first share products whatever it is
                random_seed += FIRST_SHARED_SEED
        stop = tuple(self._vocabulary.match_stop(text) for text in config.stop)
        prompt = [self._vocabulary.start, *ids.tolist()]
        plain = Request(seed, prompt, config, max_length, random_seed, stop + self._stop)
        return self._with_conditions(plain, blocklist)

    def _max_length(self, seed_length: int, config: GenerationConfig) -> int:
        """The longest text that is asked for. Raises ConfigError where the seed is longer."""
        max_length = config.max_length
        if max_length is None:
            floor = max(seed_length + (seed_length > 0), config.min_length, 1)
            return min(max(self._longest, floor), LONGEST_TEXT)
        if seed_length > max_length:
            rule = f"must be at least the seed's length ({seed_length})"
            raise ConfigError([FieldProblem("max_length", rule, str(max_length))])
        return max_length

    def _with_conditions(self, request: Request, blocklist: Blocklist) -> Request:
        """The request with all that follows from its settings. Raises ConfigError."""
        config = request.config
        lookahead = None
        if self._asks_for_shape(request):
            if config.temperature == 0:
                wanted, searched = self.for_search(request, blocklist)
                return request._replace(conditions=wanted, searched=searched, tries=(0, 0))
            lookahead = self._lookahead(request)
        shape = lookahead.shape if lookahead else None
        conditions = conditions_of(config, self._vocabulary, self.names, blocklist, shape)
        if conditions is None:
            own = blocklist if config.clean and self.names is None else None
            return request._replace(blocklist=own) if own else request
        tries = (MOST_TRIES, 0)
        if lookahead:
            tries = _tries(lookahead.acceptance(request.prompt[1:]), config.particles)
        elif config.temperature == 0 or config.top_k == 1 or request.is_whole:
            tries = (1, 0)  # they would all give the same
        return request._replace(conditions=conditions, lookahead=lookahead, tries=tries)

    def for_search(self, request: Request, blocklist: Blocklist) -> tuple[Conditions, Shape]:
        """The conditions and the shape of a request whose names are searched for, not drawn.

        Raises ConfigError.
        """
        if self.names is None:
            rule = "has no most probable texts: it writes running text, not names"
            raise ConfigError([FieldProblem("model", rule, "running text")])
        config = request.config
        shape = compile_shape(config, request.seed, self._vocabulary, self._longest)
        whole = conditions_of(config, self._vocabulary, self.names, blocklist, None)
        return whole or Conditions(), shape

    def _asks_for_shape(self, request: Request) -> bool:
        """Whether names are to be drawn to a shape, if only to lengths. Raises ConfigError for what
        can't go with one.
        """
        config = request.config
        asked = [field for field in FIELDS if getattr(config, field) is not None]
        if config.whole:
            asked.append("whole")
        if asked:
            self._check_shaped(config, asked[0])
            return asked != ["whole"] or _asks_for_lengths(config)
        by_default = (
            self.names is not None
            and config.whole is None
            and config.temperature > 0
            and not config.stop
            and max(config.min_length, config.max_length or 0) <= LONGEST_SHAPED
            and self._vocabulary.unknown not in request.prompt
        )
        return by_default and _asks_for_lengths(config)

    def _check_shaped(self, config: GenerationConfig, first: str) -> None:
        """Raise ConfigError for what can't go with a shape; `first` of the fields asks for one."""
        if self.names is None:
            rule = "must be left out: this model writes running text, not names"
            raise ConfigError([FieldProblem(first, rule, shown(getattr(config, first)))])
        if config.stop:
            rule = f"must be left out with {first}, which is about whole names"
            raise ConfigError([FieldProblem("stop", rule, shown(config.stop))])

    def _lookahead(self, request: Request) -> Lookahead:
        """The shape that is asked for, ready to be drawn. Raises ConfigError."""
        config = request.config
        asked = [getattr(config, field) for field in FIELDS]
        key = (*asked, config.min_length, request.max_length, config.temperature)
        kept = self._kept.get(key)
        if kept is None:
            shape = compile_shape(config, "", self._vocabulary, request.max_length)
            kept = Lookahead(shape, self._runs, config.temperature)
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = kept
        if not request.seed_length:
            return kept
        begun = kept.shape.after(request.prompt[1:])
        if begun is None:  # that tells why
            begun = compile_shape(config, request.seed, self._vocabulary, request.max_length)
        return kept.of(begun)


def _asks_for_lengths(config: GenerationConfig) -> bool:
    """Whether there are lengths that a name may not have; none is empty."""
    return config.min_length > 1 or config.max_length is not None


def _tries(acceptance: float, particles: int) -> tuple[int, int]:
    """How often a name is drawn freely, and then by drafts, before it is given up."""
    if acceptance * particles < 1:
        return 0, MOST_SWARMS
    return max(FEWEST_TRIES, math.ceil(PATIENCE / acceptance)), MOST_SWARMS
