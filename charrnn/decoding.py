"""The one decoding loop: many sequences, one step at a time, joining and leaving between steps.

Each sequence has its own settings, random numbers and constraint. Its result depends, bit for bit,
on these and its prompt alone: not on what shares the batch, nor on its slot. The products are made
row by row (`ops.matmul_rows`), the rest is elementwise or along a row.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from charrnn.config import GenerationConfig
from charrnn.constraints import Constraint
from charrnn.model import CharRNN
from charrnn.ops import log_softmax
from charrnn.parameters import Array
from charrnn.sampling import gumbel_noise, top_symbols

FinishReason = Literal["end", "length", "stop", "time"]
NOISE_STEPS = 32  # steps of noise drawn at a time for a sequence, fewer for a large vocabulary:
NOISE_NUMBERS = 1 << 14  # its memory grows with neither


class Drawn(NamedTuple):
    """One drawn symbol: its log-probability is natural, at temperature 1, unconstrained."""

    slot: int
    id: int
    logprob: float
    finish_reason: FinishReason | None


@dataclass
class _Sequence:
    slot: int
    prompt: list[int]  # what is still to be read, the last first
    config: GenerationConfig
    rng: np.random.Generator
    left: int  # symbols that may still be drawn
    constraint: Constraint | None
    q: Any
    noise: Array = field(default_factory=lambda: np.empty((0, 0), np.float32))
    drawn: int = 0


class DecodeBatch:
    """Up to `slots` sequences of one model, stepped together. Belongs to one thread."""

    def __init__(self, model: CharRNN, slots: int, end: int | None = None) -> None:
        """`end` is the symbol that ends a sequence; None for one that never does."""
        self.model = model
        self.end = end
        self._state = model.init_state(slots)  # (L, S, slots, H); the rows of `_live` are in use
        self._ids = np.zeros(slots, np.int64)
        self._noise_steps = max(1, min(NOISE_STEPS, NOISE_NUMBERS // model.config.vocab_size))
        self._free = list(range(slots))[::-1]
        self._live: list[_Sequence] = []  # in the order of their rows

    @property
    def live(self) -> int:
        """Sequences at work."""
        return len(self._live)

    @property
    def free(self) -> int:
        """Slots to be had."""
        return len(self._free)

    def admit(
        self,
        prompt_ids: Array,
        config: GenerationConfig,
        rng: np.random.Generator,
        *,
        limit: int,
        state: Array | None = None,
        constraint: Constraint | None = None,
    ) -> int:
        """Let a sequence join; it draws its first symbol in the step that reads its prompt's last.

        Args:
            prompt_ids: (n,) integers, n at least 1: what is read before anything is drawn.
            config: temperature, top_k and top_p count here; lengths are `limit` and `constraint`.
            rng: this sequence's own; nothing else may draw from it.
            limit: symbols to draw at most, at least 1.
            state: (L, S, H), the state before the prompt; None for zeros.
            constraint: which symbols may be drawn.

        Returns:
            The slot, which names the sequence until it finishes or is cancelled.
        """
        assert len(prompt_ids) >= 1
        assert limit >= 1
        row = len(self._live)
        prompt = np.asarray(prompt_ids)[::-1].tolist()
        q = constraint.start() if constraint else None
        slot = self._free.pop()
        self._ids[row] = prompt.pop()
        self._state[:, :, row] = 0 if state is None else state
        self._live.append(_Sequence(slot, prompt, config, rng, limit, constraint, q))
        return slot

    def step(self, n: int = 1) -> list[Drawn]:
        """Advance every sequence by `n` symbols; those that finish leave. Returns what was drawn,
        in the order of the steps. A symbol read from a prompt isn't drawn.
        """
        drawn: list[Drawn] = []
        for _ in range(n):
            if not self._live:
                break
            drawn += self._step()
        return drawn

    def state(self, slot: int) -> Array:
        """A copy of a sequence's state, (L, S, H), after all that it has read."""
        return self._state[:, :, self._row(slot)].copy()

    def fork(self, slot: int, rng: np.random.Generator) -> int:
        """A second sequence that goes on from where this one is, with random numbers of its own."""
        row, copy = self._row(slot), len(self._live)
        origin = self._live[row]
        new_slot = self._free.pop()
        self._ids[copy] = self._ids[row]
        self._state[:, :, copy] = self._state[:, :, row]
        self._live.append(
            _Sequence(
                new_slot,
                list(origin.prompt),
                origin.config,
                rng,
                origin.left,
                origin.constraint,
                origin.q,
            )
        )
        return new_slot

    def cancel(self, slot: int) -> None:
        """Let a sequence leave; its slot is free at once."""
        self._remove(self._row(slot))

    def _row(self, slot: int) -> int:
        for row, sequence in enumerate(self._live):
            if sequence.slot == slot:
                return row
        raise KeyError(f"slot {slot} is not in use")

    def _remove(self, row: int) -> None:
        """The last row takes the place of the one that leaves."""
        last = len(self._live) - 1
        self._free.append(self._live[row].slot)
        if row != last:
            self._ids[row] = self._ids[last]
            self._state[:, :, row] = self._state[:, :, last]
            self._live[row] = self._live[last]
        self._live.pop()

    def _step(self) -> list[Drawn]:
        n = len(self._live)
        logits, self._state[:, :, :n] = self.model.step(self._ids[:n], self._state[:, :, :n])
        drawing = []
        for row, sequence in enumerate(self._live):
            if sequence.prompt:
                self._ids[row] = sequence.prompt.pop()
            else:
                drawing.append(row)
        if not drawing:
            return []
        logits = logits[drawing]  # (D, V)
        scores = np.stack([self._scores(row, logits[k]) for k, row in enumerate(drawing)])
        chosen = scores.argmax(axis=1)  # (D,)
        logprobs = log_softmax(logits)[np.arange(len(drawing)), chosen]  # (D,)
        self._ids[drawing] = chosen
        drawn = [
            self._advance(row, id_, logprob)
            for row, id_, logprob in zip(drawing, chosen.tolist(), logprobs.tolist(), strict=True)
        ]
        for row, one in zip(reversed(drawing), reversed(drawn), strict=True):
            if one.finish_reason:
                self._remove(row)
        return drawn

    def _scores(self, row: int, logits: Array) -> Array:
        """What the argmax is taken of, (V,): the logits with this sequence's noise and limits."""
        sequence = self._live[row]
        config, place = sequence.config, sequence.drawn % self._noise_steps
        if place == 0:
            sequence.noise = gumbel_noise(sequence.rng, self._noise_steps, len(logits))
        noise = sequence.noise[place]
        allowed = sequence.constraint.allowed(sequence.q) if sequence.constraint else None
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        scores = logits + logits.dtype.type(config.temperature) * noise
        if config.top_k is not None or config.top_p is not None:
            top = top_symbols(logits, config.temperature, config.top_k, config.top_p)
            scores = np.where(top, scores, -np.inf)
        return scores

    def _advance(self, row: int, id_: int, logprob: float) -> Drawn:
        sequence = self._live[row]
        sequence.drawn += 1
        sequence.left -= 1
        if sequence.constraint:
            sequence.q = sequence.constraint.advance(sequence.q, id_)
        reason: FinishReason | None = None
        if id_ == self.end:
            reason = "end"
        elif sequence.left == 0:
            reason = "length"
        return Drawn(sequence.slot, id_, logprob, reason)


def rows_are_exact(model: CharRNN, steps: int = 4) -> bool:
    """Whether this machine's products keep the promise: a sequence alone, and in every slot of a
    busy batch, has the same states and logits to the last bit.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.config.vocab_size, steps)
    for size in (2, 5, 8, 13) if model.config.hidden_size <= 512 else (2,):
        others = rng.integers(0, model.config.vocab_size, (steps, size))
        for slot in range(size):
            alone, busy = model.init_state(1), model.init_state(size)
            for t in range(steps):
                others[t, slot] = ids[t]
                logits, alone = model.step(ids[t : t + 1], alone)
                busy_logits, busy = model.step(others[t], busy)
                if not (
                    np.array_equal(busy_logits[slot], logits[0])
                    and np.array_equal(busy[:, :, slot], alone[:, :, 0])
                ):
                    return False
    return True
