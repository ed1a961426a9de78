"""What training leaves out at random: outputs of layers, recurrent weights, and words that a
person says.

Srivastava et al. 2014, JMLR 15 (dropout); Gal & Ghahramani 2016, "A theoretically grounded
application of dropout in recurrent neural networks" (one mask for a whole sequence); Wan et al.
2013, "Regularization of neural networks using DropConnect", of recurrent weights as in Merity,
Keskar & Socher 2018, "Regularizing and optimizing LSTM language models". Words: after Bowman et
al. 2016, "Generating sentences from a continuous space", and Xie et al. 2017, "Data noising as
smoothing in neural network language models".
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import PERSON, NetworkConfig
from charrnn.ops import Array, Workspace, dropout_mask, places

COMMON = 3e-3  # of a person's words: one that is no more frequent is never left out


def drops_anything(config: NetworkConfig) -> bool:
    """Whether a network's training needs random numbers."""
    return config.dropout > 0 or config.recurrent_dropout > 0


class Share(NamedTuple):
    """Which sequences of a whole batch a batch has: every `of`-th, from `number` on. parts: the
    rows of each step, of each part that the whole one would be passed in.
    """

    number: int
    of: int
    parts: Sequence[Array]


class Drops:
    """The masks of one batch. Each is 0, or one over the share that is kept.

    `weights[n]` is the one of layer n's W; no list where none is dropped.
    """

    def __init__(
        self,
        config: NetworkConfig,
        recurrent: Sequence[Array],
        rows: int,
        rng: np.random.Generator,
        work: Workspace,
        share: Share | None = None,
    ) -> None:
        """
        Args:
            config: what is dropped.
            recurrent: each layer's W (H, G*H).
            rows: sequences of the batch.
            rng: draws the masks.
            work: where those of the whole batch live, until the next one.
            share: of the batch whose masks are drawn; these sequences get their own of them.
        """
        self._config, self._rng, self._rows = config, rng, list[Array]()
        self.weights: list[Array] = []
        whole = int(share.parts[0][0]) if share else rows
        for n, weights in enumerate(recurrent):
            own = work.child(f"layer {n}")
            if config.recurrent_dropout:
                mask = own.take("W mask", weights.shape, weights.dtype)
                self.weights.append(dropout_mask(config.recurrent_dropout, rng, mask))
            if config.dropout and config.dropout_mask == "sequence":
                mask = own.take("row mask", (config.hidden_size, whole), weights.dtype)
                dropout_mask(config.dropout, rng, mask)
                self._rows.append(mask[:, share.number :: share.of] if share else mask)
        self._drawn: list[Array] = []  # what is left of each layer's
        if share and config.dropout and not self._rows:
            self._drawn = self._of_share(share, len(recurrent), recurrent[0].dtype)

    def _of_share(self, share: Share, layers: int, dtype: Any) -> list[Array]:
        """The mask of each layer's outputs, (H, N); those of the whole batch are drawn for it."""
        drawn: list[list[Array]] = [[] for _ in range(layers)]
        for sizes in share.parts:
            rows = places(sizes) % share.of == share.number
            for layer in drawn:
                mask = np.empty((self._config.hidden_size, len(rows)), dtype)
                layer.append(dropout_mask(self._config.dropout, self._rng, mask)[:, rows])
        return [np.concatenate(layer, axis=1) for layer in drawn]

    def outputs(self, layer: int, sizes: Array, out: Array) -> Array:
        """The mask of a layer's outputs over some steps, in `out`.

        Args:
            layer: from 0, the lowest.
            sizes: (T,), the rows of each step.
            out: (H, N), for all steps; overwritten.
        """
        if self._drawn:
            left = self._drawn[layer]
            out[...] = left[:, : out.shape[1]]
            self._drawn[layer] = left[:, out.shape[1] :]
            return out
        if not self._rows:
            return dropout_mask(self._config.dropout, self._rng, out)
        start = 0
        for size in sizes.tolist():
            out[:, start : start + size] = self._rows[layer][:, :size]
            start += size
        return out


class WordDrops:
    """Leaves out words of what a person says, and puts in others, so that a network learns to
    answer by the words that matter, however they are wrapped.

    A word of frequency f is left out with the probability rate * (1 - sqrt(t / f)), t = `COMMON`:
    "what" and "did" often, a dinosaur's name hardly ever. (That is how Mikolov et al. 2013,
    "Distributed representations of words and phrases", equation 5, thin out frequent words.) As
    many as leave so on the whole are put in, each drawn from all that people say. Each line has a
    rate of its own, drawn from 0 up to twice the mean, so that many lines stay as they are.
    """

    def __init__(self, conversations: Sequence[str], mean: float) -> None:
        """
        Args:
            conversations: those that are learned from; their words are counted.
            mean: of the rates of lines, from 0 to 0.5.
        """
        self._said = [
            word
            for conversation in conversations
            for line in conversation.split("\n")
            if line.startswith(PERSON)
            for word in line.removeprefix(PERSON).split()
        ]
        counts, rare = Counter(self._said), COMMON * len(self._said)
        self._share = {w: 1 - (rare / n) ** 0.5 for w, n in counts.items() if n > rare}
        left_out = sum(counts[word] * share for word, share in self._share.items())
        self._put_in = left_out / max(1, len(self._said))
        self._most = 2 * mean

    def talk(self, conversation: str, rng: np.random.Generator) -> str:
        """A conversation, with some words of the person's lines left out, and others put in."""
        lines = conversation.split("\n")
        return "\n".join(
            PERSON + self._line(line.removeprefix(PERSON), rng) if line.startswith(PERSON) else line
            for line in lines
        )

    def _line(self, line: str, rng: np.random.Generator) -> str:
        """What becomes of a line; one of its own words stays at least."""
        words = line.split()
        rate = self._most * rng.random()
        leaves = rng.random(len(words))
        enters = rng.random(len(words) + 1) < rate * self._put_in  # before each, and at the end
        kept = [
            [word] if leave >= rate * self._share.get(word, 0.0) else []
            for word, leave in zip(words, leaves.tolist(), strict=True)
        ]
        if not any(kept):
            return line
        found = list[str]()
        for own, enter in zip([*kept, []], enters.tolist(), strict=True):
            if enter:
                found.append(self._said[int(rng.integers(len(self._said)))])
            found += own
        return " ".join(found)
