"""Packed batches of a corpus, to learn from and to be evaluated on.

Which batch comes at which step is a function of the random seed and the step alone, so a run that
is resumed sees the same data.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from charrnn.corpus import Corpus
from charrnn.dropping import WordDrops
from charrnn.packed import Batch
from charrnn.parameters import Array
from charrnn.vocabulary import Vocabulary
from charrnn.wordlist import AnyVocabulary

WINDOW = 1 << 18  # symbols of running text that are made ready at a time
EVALUATION_ROWS = 4_096  # rows of a packed batch in evaluation: bounds its memory
COMPARED = 50_000  # sequences whose batches `largest_step` compares, or those of one epoch


class NameFeed:
    """Training batches of whole names, or sentences: each once an epoch, in a new order each time.
    `truncate`: steps that a gradient reaches back; None for all.
    """

    def __init__(
        self, corpus: Corpus, batch_size: int, random_seed: int, truncate: int | None = None
    ) -> None:
        vocabulary, names = corpus.vocabulary, corpus.sequences["train"]
        assert vocabulary.end is not None
        self._symbols, self._starts, self._lengths = _joined(names, vocabulary)
        self._random_seed, self._span = random_seed, truncate + 1 if truncate else 0
        self.batch_size = min(batch_size, len(names))
        self.steps_in_epoch = -(-len(names) // self.batch_size)
        self._order: tuple[int, Array] = (-1, self._starts)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, index = divmod(step, self.steps_in_epoch)
        chosen = self._shuffled(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        return packed(self._symbols, self._starts[chosen], self._lengths[chosen], self._span)

    def _shuffled(self, epoch: int) -> Array:
        """The order of the names in an epoch."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._random_seed, 1, epoch])
            self._order = (epoch, rng.permutation(len(self._starts)))
        return self._order[1]

    def largest_step(self, steps: int | None) -> int:
        """Of the first `steps`, or of all, the one with the most symbols in its batch; of no more
        epochs than are soon compared.
        """

        def sizes(epoch: int) -> Array:
            firsts = np.arange(0, len(self._lengths), self.batch_size)
            return np.add.reduceat(self._lengths[self._shuffled(epoch)], firsts, dtype=np.int64)

        return _largest(sizes, len(self._starts), self.steps_in_epoch, steps)

    def starts_afresh(self, step: int) -> bool:
        """Whether the state is zero before a step: always, for names."""
        return True


class TextFeed:
    """Training batches of running text: `batch_size` streams read side by side, `seq_length`
    characters a step, the state carried on. Each epoch begins at another place.
    """

    def __init__(self, corpus: Corpus, batch_size: int, seq_length: int, random_seed: int) -> None:
        self._symbols = corpus.learned()
        self._random_seed = random_seed
        targets = len(self._symbols) - 1
        self.seq_length = min(seq_length, targets)
        self.batch_size = max(1, min(batch_size, targets // self.seq_length))
        self.steps_in_epoch = targets // (self.batch_size * self.seq_length)
        stream = self.steps_in_epoch * self.seq_length
        self._spare = targets - self.batch_size * stream
        self._first = (-1, 0)  # an epoch, and where it begins
        self._starts = [stream * row for row in range(self.batch_size)]
        self._sizes = np.full(self.seq_length, self.batch_size)
        self._at_once = max(1, WINDOW // (self.batch_size * self.seq_length))  # steps of a window
        self._window: tuple[int, int, Array] = (-1, -1, np.empty(0))  # its epoch and number

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, index = divmod(step, self.steps_in_epoch)
        if self._first[0] != epoch:
            rng = np.random.default_rng([self._random_seed, 1, epoch])
            self._first = (epoch, int(rng.integers(self._spare + 1)))
        begin = index % self._at_once * self.seq_length
        window = self._window_of(epoch, index // self._at_once)[begin : begin + self.seq_length + 1]
        return Batch(window[:-1].ravel(), window[1:].ravel(), self._sizes)

    def _window_of(self, epoch: int, number: int) -> Array:
        """What all streams read in some steps, and one symbol more, (T, B): a large text is read
        from its file a window at a time.
        """
        if self._window[:2] != (epoch, number):
            begin = number * self._at_once * self.seq_length
            steps = min(self._at_once, self.steps_in_epoch - number * self._at_once)
            size, first = steps * self.seq_length + 1, self._first[1] + begin
            streams = [
                self._symbols[start + first : start + first + size] for start in self._starts
            ]
            self._window = (epoch, number, np.stack(streams, axis=1).astype(np.int64))
        return self._window[2]

    def largest_step(self, steps: int | None) -> int:
        """The step with the most symbols in its batch: all have as many."""
        return 0

    def starts_afresh(self, step: int) -> bool:
        """Whether the state is zero before a step: where an epoch begins."""
        return step % self.steps_in_epoch == 0


class ChatFeed:
    """Training batches of conversations: every one once an epoch, in a new order each time. Up to
    `chain` of them, each number as likely, are read as one long talk from a zero state, so that the
    network learns to go on with another subject in the state that a long talk leaves. With
    `word_dropout`, the person's lines are others each time (`WordDrops`).
    """

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        chain: int,
        random_seed: int,
        word_dropout: float = 0.0,
    ) -> None:
        self._bodies = [text.strip("\n") for text in corpus.sequences["train"]]
        self._drops = WordDrops(self._bodies, word_dropout) if word_dropout else None
        self._vocabulary, self._chain = corpus.vocabulary, chain
        self._random_seed = random_seed
        per_batch = batch_size * (chain + 1) / 2
        self.steps_in_epoch = max(1, round(len(self._bodies) / per_batch))
        self.batch_size = batch_size
        self._epoch: tuple[int, list[list[str]]] = (-1, [])

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, index = divmod(step, self.steps_in_epoch)
        talks = self._talks(epoch)[index :: self.steps_in_epoch]
        if self._drops:
            rng = np.random.default_rng([self._random_seed, 3, step])
            talks = [[self._drops.talk(body, rng) for body in talk] for talk in talks]
        texts = ["\n" + "\n".join(talk) + "\n\n" for talk in talks]
        lengths = np.array([len(text) for text in texts])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return packed(self._vocabulary.ids_of("".join(texts)), starts, lengths - 1)

    def largest_step(self, steps: int | None) -> int:
        """As that of `NameFeed`; of the words that are left out or put in nothing is known."""

        def sizes(epoch: int) -> Array:
            talks = [sum(map(len, talk)) + len(talk) + 1 for talk in self._talks(epoch)]
            each = range(self.steps_in_epoch)
            return np.array([sum(talks[n :: self.steps_in_epoch]) for n in each])

        return _largest(sizes, len(self._bodies), self.steps_in_epoch, steps)

    def _talks(self, epoch: int) -> list[list[str]]:
        """What is read as one, in the order of an epoch."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._chained(epoch))
        return self._epoch[1]

    def _chained(self, epoch: int) -> list[list[str]]:
        rng = np.random.default_rng([self._random_seed, 1, epoch])
        order = rng.permutation(len(self._bodies)).tolist()
        talks = []
        while order:
            size = int(rng.integers(1, self._chain + 1))
            talks.append([self._bodies[n] for n in order[:size]])
            del order[:size]
        while len(talks) < self.steps_in_epoch:  # chance made them longer than most
            talks.append(talks[len(talks) % self.steps_in_epoch])
        return talks

    def starts_afresh(self, step: int) -> bool:
        """Whether the state is zero before a step: always."""
        return True


Feed = NameFeed | TextFeed | ChatFeed


def _largest(
    sizes: Callable[[int], Array], sequences: int, steps_in_epoch: int, steps: int | None
) -> int:
    """The step with the largest batch. `sizes` tells those of an epoch, which has so many
    `sequences`.
    """
    epochs = max(1, COMPARED // sequences)
    if steps is not None:
        epochs = min(epochs, -(-steps // steps_in_epoch))
    found = np.concatenate([sizes(epoch) for epoch in range(epochs)])  # of each step
    return int(found[:steps].argmax())


def _joined(names: Sequence[str], vocabulary: AnyVocabulary) -> tuple[Array, Array, Array]:
    """Names, or sentences, as one array of ids, an end symbol before, between and behind: (ids,
    starts, targets).

    starts: where the end symbol before each name stands; targets: its symbols, its end included.
    """
    symbols, lengths = vocabulary.joined(names)
    return symbols, np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths


def packed(symbols: Array, starts: Array, lengths: Array, span: int = 0) -> Batch:
    """A packed batch of the sequences that begin at `starts` and have `lengths` targets each, cut
    every `span` steps for the gradient.
    """
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    alive = lengths > np.arange(lengths[0])[:, None]  # (T, B)
    places = (starts + np.arange(lengths[0])[:, None])[alive]  # time-major, without padding
    ids, targets = (symbols[at].astype(np.int64, copy=False) for at in (places, places + 1))
    return Batch(ids, targets, alive.sum(axis=1), span)


def evaluation_batches(
    sequences: Sequence[str], vocabulary: AnyVocabulary, number: int = 0, of: int = 1
) -> Iterator[tuple[Batch, bool]]:
    """Packed batches that cover `sequences` once, each from a zero state; or, of the groups of
    sequences that are read side by side, every `of`-th from `number` on.

    Yields a batch, and whether it begins new sequences (else it continues, row by row, the longest
    of those before it).
    """
    if vocabulary.end is not None:
        symbols, starts, lengths = _joined(sequences, vocabulary)
    else:
        assert isinstance(vocabulary, Vocabulary)
        symbols = vocabulary.small_ids(sequences)
        sizes = np.array([len(sequence) for sequence in sequences])
        starts, lengths = np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes - 1
    order = np.argsort(-lengths, kind="stable")
    for first in range(256 * number, len(order), 256 * of):
        chosen = order[first : first + 256]
        span = max(1, EVALUATION_ROWS // len(chosen))
        for begin in range(0, int(lengths[chosen[0]]), span):
            left = lengths[chosen] - begin
            rows = chosen[left > 0]
            lasting = np.minimum(lengths[rows] - begin, span)
            yield packed(symbols, starts[rows] + begin, lasting), begin == 0
