"""What a peer is: our weights in another's network, that generates what `Generator.generate` does,
symbols drawn from the softmax and with each text its log-probability.

All compute the log-probabilities at the end, from the logits kept of every step, which is cheapest.
None turns ids into text, counts stop strings, or can give a text of a batch again alone: that is
left out in their favour.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.model import CharRNN

DROP_EVERY = 4  # steps between two looks at which rows of a batch have ended
NOISE_STEPS = 16  # of a batch of names, whose noise is drawn at a time: most end within two


@dataclass
class Texts:
    """What a peer has generated: ids and log-probability of each text."""

    ids: list[list[int]]
    logprobs: list[float]

    @property
    def characters(self) -> int:
        return sum(map(len, self.ids))


class Peer:
    """One network and its loop. `advance` reads a symbol a row, and draws the next."""

    def __init__(self, model: CharRNN) -> None:
        self.config = model.config

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        """The first symbols and the state before them."""
        raise NotImplementedError

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        """The symbols drawn with this step's noise, the logits, and the new state."""
        raise NotImplementedError

    def noise(self, steps: int, batch: int, own: list[Any] | None = None) -> list[Any]:
        """The Gumbel noise of every step, (batch, V) each; by each row's own generator if given."""
        raise NotImplementedError

    def generator(self, seed: int) -> Any:
        """A generator of random numbers for one row."""
        raise NotImplementedError

    def rows(self, state: Any, chosen: Any) -> Any:
        """The state of some rows."""
        raise NotImplementedError

    def array(self, x: Any) -> np.ndarray[Any, Any]:
        """A vector of the peer as an array of numpy."""
        return np.asarray(x)

    def logprobs(self, logits: list[Any], ids: list[Any]) -> np.ndarray[Any, Any]:
        """log softmax(logits)[id], (steps, batch)."""
        raise NotImplementedError

    def logits_after(self, prompt: list[int]) -> np.ndarray[Any, Any]:
        """The logits after a prompt, (V,): what a check compares."""
        x, state = self.begin(1, prompt[0])
        logits = None
        for id_, quiet in zip(prompt, self.noise(len(prompt), 1), strict=True):
            x, _ = self.begin(1, id_)
            _, logits, state = self.advance(x, state, quiet)
        return self.array(logits).reshape(-1).copy()

    def texts(self, length: int, batch: int, start: int = 0) -> Texts:
        """Running text: `length` symbols for each row."""
        x, state = self.begin(batch, start)
        ids, kept = [], []
        for noise in self.noise(length, batch):
            x, logits, state = self.advance(x, state, noise)
            ids.append(x)
            kept.append(logits)
        logprobs = self.logprobs(kept, ids).sum(axis=0)
        by_step = np.array([self.array(x).reshape(-1) for x in ids])  # (steps, batch)
        return Texts(by_step.T.tolist(), logprobs.tolist())

    def names(
        self, limit: int, batch: int, end: int, *, drop: bool, seeds: list[int] | None = None
    ) -> Texts:
        """Names: every row until its end symbol. With `drop`, rows that have ended leave the batch
        now and then; without it the whole batch goes on until the last has ended.
        """
        x, state = self.begin(batch, end)
        own = None if seeds is None else [self.generator(seed) for seed in seeds]
        live, drawing = np.arange(batch), np.arange(batch)
        ended = np.zeros(batch, bool)
        blocks: list[tuple[Any, list[Any], list[Any]]] = [(live, [], [])]
        noise: list[Any] = []
        for t in range(limit):
            if not noise:
                steps, drawing = min(NOISE_STEPS, limit - t), live
                theirs = None if own is None else [own[row] for row in live]
                noise = self.noise(steps, len(live), theirs)[::-1]
            step_noise = noise.pop()
            if step_noise is not None and len(live) < len(drawing):
                step_noise = step_noise[np.searchsorted(drawing, live)]
            x, logits, state = self.advance(x, state, step_noise)
            blocks[-1][1].append(x)
            blocks[-1][2].append(logits)
            ended |= self.array(x).reshape(-1) == end
            if ended.all():
                break
            if drop and t % DROP_EVERY == DROP_EVERY - 1 and ended.any():
                staying = np.flatnonzero(~ended)
                x, state = x[staying], self.rows(state, staying)
                live, ended = live[staying], ended[staying]
                blocks.append((live, [], []))
        return self._named(blocks, batch, end)

    def _named(self, blocks: list[tuple[Any, list[Any], list[Any]]], batch: int, end: int) -> Texts:
        ids: list[list[int]] = [[] for _ in range(batch)]
        totals = np.zeros(batch)
        for live, drawn, logits in blocks:
            if not drawn:
                continue
            by_step = np.array([self.array(x).reshape(-1) for x in drawn])  # (steps, rows)
            before_end = np.cumsum(by_step == end, axis=0) - (by_step == end) == 0
            totals[live] += (self.logprobs(logits, drawn) * before_end).sum(axis=0)
            within = before_end & (by_step != end)
            for k, row in enumerate(live.tolist()):
                ids[row] += by_step[within[:, k], k].tolist()
        return Texts(ids, totals.tolist())


def layers_of(model: CharRNN, convert: Any) -> tuple[list[dict[str, Any]], tuple[Any, Any]]:
    """Our own matrices, the first layer's as a table of rows; the output's V and c."""
    layers = []
    for n in range(model.config.num_layers):
        layer = dict(model.params.layer(f"layers.{n}."))
        if n == 0:
            layer["table"] = layer.pop("U") + layer.pop("b")
        if "b_h" in layer:  # the hidden bias of the GRU's candidate, beside two gates without one
            layer["b_h"] = np.concatenate([np.zeros(2 * len(layer["b_h"])), layer["b_h"]])
        layers.append({k: convert(a.astype(np.float32).copy()) for k, a in layer.items()})
    return layers, (convert(model.params["out.V"].copy()), convert(model.params["out.c"].copy()))
