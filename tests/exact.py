"""What names of a tiny model are worth by adding up everything: all names up to a length, their
probabilities at any settings, and how far from these a sample is.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from charrnn.config import GenerationConfig
from charrnn.generator import Generator
from charrnn.sampling import Limits
from tests.models import VERSION, names_model

ABRA = ("Abra", "Barra", "Rab", "Arbab", "Raab", "Bar", "Abba", "Barbara")
Z = 4.75  # standard deviations that chance exceeds once in a million times


def abra(**network_settings: Any) -> Generator:
    """A generator of names over three letters."""
    model = names_model(ABRA, **{"end_logit": 0.5, **network_settings})
    return Generator("tiny", VERSION, model)


def every_name(
    made: Generator, longest: int, config: GenerationConfig | None = None, before: str = ""
) -> dict[str, float]:
    """{name: probability} of all names up to a length, drawn freely at these settings."""
    config = config or GenerationConfig()
    vocabulary, model = made.vocabulary, made.model
    found: dict[str, float] = {}
    seed = vocabulary.encode(before).tolist()
    state, logits = model.init_state(1), np.zeros((1, len(vocabulary)))
    for id_ in [vocabulary.start, *seed]:
        logits, state = model.step(np.array([id_]), state)
    open_: list[tuple[tuple[int, ...], float, Any, Any]] = [(tuple(seed), 1.0, logits, state)]
    limits = Limits([config], len(vocabulary))
    while open_:
        ids, chance, logits, state = open_.pop()
        row = logits.astype(np.float64)
        if not ids:
            row[0, vocabulary.end] = -np.inf
        order, among = limits.ranked(row)
        allowed = np.zeros(len(vocabulary), bool)
        allowed[order[0][np.broadcast_to(among, order.shape)[0]]] = True
        weights = np.where(allowed, np.exp((row[0] - row.max()) / config.temperature), 0)
        for id_, share in enumerate((weights / weights.sum()).tolist()):
            if share and id_ == vocabulary.end:
                found[vocabulary.decode(ids)] = chance * share
            elif share and len(ids) < longest:
                after = model.step(np.array([id_]), state)
                open_.append(((*ids, id_), chance * share, *after))
    return found


def given(names: dict[str, float], accepts: Callable[[str], bool]) -> dict[str, float]:
    """{name: probability} given that a name is accepted."""
    kept = {name: chance for name, chance in names.items() if accepts(name)}
    total = math.fsum(kept.values())
    return {name: chance / total for name, chance in kept.items()}


def distance(texts: Sequence[str], expected: dict[str, float]) -> float:
    """The total variation between what was drawn and what was expected."""
    counts, total = Counter(text.lower() for text in texts), len(texts)
    names = set(counts) | set(expected)
    return 0.5 * sum(abs(counts[name] / total - expected.get(name, 0.0)) for name in names)


def assert_drawn_from(texts: Sequence[str], expected: dict[str, float]) -> None:
    """Pearson's test, names of fewer than five expected draws taken together: a false alarm comes
    once in a million runs (by Wilson and Hilferty's approximation of the tail).
    """
    counts, total = Counter(text.lower() for text in texts), len(texts)
    assert set(counts) <= set(expected)
    often = [name for name, chance in expected.items() if chance * total >= 5]
    rest = 1 - math.fsum(expected[name] for name in often)
    seen = [counts[name] for name in often]
    hoped = [expected[name] * total for name in often]
    if rest * total >= 5:
        seen.append(total - sum(seen))
        hoped.append(rest * total)
    assert len(seen) >= 5, "too few names for a test"
    chi2 = sum((s - h) ** 2 / h for s, h in zip(seen, hoped, strict=True))
    degrees = len(seen) - 1
    spread = 2 / (9 * degrees)
    assert chi2 < degrees * (1 - spread + Z * math.sqrt(spread)) ** 3
