"""Tiny frozen models, made without training, and the busy schedule that decoding is held against.

Imported by child processes too, so it needs nothing but charrnn and numpy.
"""

from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from charrnn.cells import CELLS
from charrnn.compiled import CompiledModel
from charrnn.config import AS_DRAWN, GenerationConfig, ModelConfig
from charrnn.decoding import DecodeBatch
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.products import BY_ROW
from charrnn.sequences import Arrival
from charrnn.vocabulary import Vocabulary, case_of, matched
from charrnn.weights import FrozenModel

TITLE_NAMES = ("Rex", "Ceratops", "Sauro Rex", "Xerus", "Tar-Rex")
KEPT_NAMES = ("McRex", "iPad", "x", "Caro", "aXe")
VERSION = "0" * 64


def network(cell="lstm", *, hidden=8, layers=1, vocab=5, seed=0, end=None, end_logit=0.0):
    """A network with random weights, large enough that its distributions are far from even."""
    config = ModelConfig(cell=cell, hidden_size=hidden, num_layers=layers, vocab_size=vocab)
    rng = np.random.default_rng(seed)
    model = CharRNN.initialized(config, rng)
    model.params.flat[:] *= 2
    model.params["out.V"][:] += rng.normal(0, 0.5, model.params["out.V"].shape)
    model.params["out.c"][:] += rng.normal(0, 0.5, vocab)
    if end is not None:
        model.params["out.c"][end] += end_logit
    model.params.freeze()
    return model


def constant_network(logits, cell="rnn"):
    """A network that gives the same logits after whatever it has read."""
    model = CharRNN.initialized(
        ModelConfig(cell=cell, hidden_size=3, vocab_size=len(logits)), np.random.default_rng(0)
    )
    model.params["out.V"][:] = 0
    model.params["out.c"][:] = logits
    model.params.freeze()
    return model


def frozen(kind, vocabulary, names=(), *, cell="lstm", hidden=8, layers=1, seed=0, end_logit=0.0):
    """A frozen model over a vocabulary."""
    model = network(
        cell,
        hidden=hidden,
        layers=layers,
        vocab=len(vocabulary),
        seed=seed,
        end=vocabulary.end,
        end_logit=end_logit,
    )
    return FrozenModel(kind, model.config, model.params, vocabulary, tuple(names))


def names_model(names=TITLE_NAMES, **network_settings):
    """A model of a list of names, under the case rule that the list follows."""
    case = case_of(names)
    read = [matched(name, case) for name in names]
    return frozen(
        "names", Vocabulary.of(read, ends=True, case=case), sorted(read), **network_settings
    )


def text_model(characters="abc", **network_settings):
    """A model of running text over some characters."""
    return frozen("text", Vocabulary.of([characters], ends=False), **network_settings)


class Freely(Generator):
    """A generator whose texts are kept as they are drawn, unless a test asks for conditions: most
    tests are about the drawing, and a tiny network has few names.
    """

    def request(self, seed="", config=None, **settings):
        if config is None:
            return super().request(seed, None, **{**AS_DRAWN, **settings})
        if isinstance(config, GenerationConfig):
            unsaid = {name: value for name, value in AS_DRAWN.items() if name not in config.said()}
            config = config.changed(**unsaid)
        return super().request(seed, config, **settings)


def generator(model):
    return Freely("tiny", VERSION, model)


def titled(**network_settings):
    """A generator of names that are learned in lower case and written with capitals."""
    return generator(names_model(**network_settings))


def kept(**network_settings):
    """A generator of names whose letters stay as they are."""
    return generator(names_model(KEPT_NAMES, **network_settings))


def running(characters="abc", **network_settings):
    """A generator of running text."""
    return generator(text_model(characters, **network_settings))


class Never:
    """A constraint: a symbol that never comes within so many draws, counted in the state."""

    def __init__(self, symbol, vocab, draws=10**9):
        self.draws, self.others = draws, np.arange(vocab) != symbol

    def start(self):
        return 0

    def allowed(self, q):
        return self.others if q < self.draws else None

    def advance(self, q, id_):
        return q + 1


@dataclass
class Life:
    """One sequence: how it came into being, and the bits of each of its steps."""

    prompt: np.ndarray
    config: GenerationConfig
    seed: int
    limit: int
    fewest: int
    constrained: bool
    as_fours: bool
    state: np.ndarray | None
    parent: "Life | None" = None
    born_after: int = 0  # steps of the parent before the fork
    trace: list[tuple] = field(default_factory=list)

    def admit(self, batch):
        vocab = batch.model.config.vocab_size
        arrival = Arrival(
            self.config,
            np.random.default_rng(self.seed),
            self.limit,
            self.fewest,
            Never(vocab - 1, vocab, 4) if self.constrained else None,
        )
        position = batch.model.read(self.prompt.tolist(), self.state)
        (slot,) = batch.admit(position, [arrival], as_fours=self.as_fours)
        return slot


def random_life(rng, model, seed):
    """Any settings, and a carried state for some."""
    vocab = model.config.vocab_size
    config = GenerationConfig(
        temperature=float(rng.choice([0, 0.3, 1, 3])),
        top_k=int(rng.integers(1, vocab + 3)) if rng.random() < 0.3 else None,
        top_p=float(rng.uniform(0.2, 1)) if rng.random() < 0.3 else None,
    )
    state = None
    if rng.random() < 0.3:
        shape = model.start(0).state.shape
        state = rng.uniform(-1, 1, shape).astype(np.float32)
    prompt = rng.integers(0, vocab, rng.integers(1, 6))
    limit, fewest = int(rng.integers(1, 15)), int(rng.integers(0, 4))
    constrained = bool(vocab > 2 and rng.random() < 0.3)  # something must be left beside the end
    return Life(prompt, config, seed, limit, fewest, constrained, seed % 3 == 0, state)


def observe(batch, lives):
    """One step; each live sequence's state before, logits, and draw go into its trace."""
    fours = [one.as_fours for one in batch._live]
    assert fours == sorted(fours)  # behind the others
    assert sum(fours) == batch._fours
    before = {slot: batch.state(slot).tobytes() for slot in lives}
    for stretch in batch.step():
        life = lives[stretch.slot]
        logits = batch._run.logits[0][batch._run.slots[0] == stretch.slot].tobytes()
        life.trace.append((before[stretch.slot], logits, stretch[1:]))
        if stretch.finish_reason:
            del lives[stretch.slot]


def busy_lives(model, *, slots, ticks, seed, block=BY_ROW):
    """Sequences that join, leave, are cancelled and forked at random; every life, with its bits."""
    rng, seeds = np.random.default_rng(seed), count(seed * 1000)
    batch = DecodeBatch(model, slots, end=0, block=block)
    lives, everyone = {}, []
    for tick in range(ticks):
        if lives and batch.free and rng.random() < 0.4:
            slot = int(rng.choice(list(lives)))
            origin = lives[slot]
            copy = replace(
                origin, seed=next(seeds), parent=origin, born_after=len(origin.trace), trace=[]
            )
            everyone.append(copy)
            lives[batch.fork(slot, np.random.default_rng(copy.seed))] = copy
        while batch.free and rng.random() < 0.5:
            life = random_life(rng, model, next(seeds))
            everyone.append(life)
            lives[life.admit(batch)] = life
        if tick % 5 == 4:
            parked = [(batch.park(slot), lives.pop(slot)) for slot in list(lives)[::2]]
            observe(batch, lives)
            lives |= {batch.unpark(each): life for each, life in parked}
        if lives and rng.random() < 0.15:
            slot = int(rng.choice(list(lives)))
            batch.cancel(slot)
            del lives[slot]
        observe(batch, lives)
    return everyone


def alone(model, life, block=BY_ROW):
    """The same life in a batch of its own, for as many steps."""
    line = [life]  # with its ancestors, the oldest first
    while line[0].parent:
        line.insert(0, line[0].parent)
    batch = DecodeBatch(model, 1 if len(line) == 1 else 2, end=0, block=block)
    slot = line[0].admit(batch)
    for copy in line[1:]:
        batch.step(copy.born_after)
        fork = batch.fork(slot, np.random.default_rng(copy.seed))
        batch.cancel(slot)
        slot = fork
    again = replace(life, trace=[])
    lives = {slot: again}
    for _ in life.trace:
        observe(batch, lives)
    return again


def differing_lives(network, *, slots=8, ticks=30, seed=0, block=BY_ROW):
    """How many sequences of a busy batch differ in any bit from themselves alone, and of how many.

    Bits: the state before each step, the logits, and what was drawn.
    """
    model = CompiledModel(network)
    everyone = busy_lives(model, slots=slots, ticks=ticks, seed=seed, block=block)
    differing = sum(alone(model, life, block).trace != life.trace for life in everyone)
    return differing, len(everyone)


def every_cell(layers=(1, 2, 3)):
    return [(cell, n) for cell in CELLS for n in layers]
