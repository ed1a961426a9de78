"""What the sequences of a batch draw in one run, kept until it is over: then it is cut into one
stretch for each of them, and the log-probabilities are worked out all at once.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from charrnn.errors import WeightsCorruptError
from charrnn.ops import chosen_log_softmax
from charrnn.parameters import Array

FinishReason = Literal["end", "length", "stop", "time"]


class Stretch(NamedTuple):
    """What a sequence drew in a run. The log-probabilities are natural, at temperature 1, and
    unconstrained. With a finish reason, the sequence has left."""

    slot: int
    ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason | None


class Run:
    """The symbols of a run, and the logits that they were drawn from, by step and lane.

    Attributes:
        drawn: (T, B), the symbols.
        logits: (T, B, V), without the output bias.
        slots: (T, B), for which slot it was; -1 for none, where the sequence had ended or is not
            told of.
    """

    def __init__(self, steps: int, lanes: int, out_bias: Array) -> None:
        """Room for so many at most; out_bias (V,)."""
        self._out_bias = out_bias
        self.slots, self.drawn = np.zeros((2, steps, lanes), int)
        self.logits = np.zeros((steps, lanes, len(out_bias)), out_bias.dtype)

    def begin(self, steps: int) -> None:
        """Forget the run before this one, which has so many steps at most."""
        self.slots[:steps] = -1

    def note(self, made: int, slots: Array, lengths: Array | None, steps: int) -> None:
        """From step `made` on so many steps are drawn.

        Args:
            slots: of the lanes (B,), -1 for those that are not told of.
            lengths: how many of the symbols count, (B,); None for all of them.
        """
        noted = self.slots[made : made + steps, : len(slots)]
        noted[...] = slots
        if lengths is not None:
            noted[np.arange(steps)[:, None] >= lengths] = -1

    def stretches(self, steps: int, lanes: int, left: Mapping[int, FinishReason]) -> list[Stretch]:
        """What each slot drew, in the order of slots.

        Args:
            steps, lanes: how many there were.
            left: why a slot's sequence left, where it did.
        """
        run = self.slots[:steps, :lanes]
        step, lane = np.nonzero(run >= 0)  # in the order of the steps
        slots = run[step, lane].astype(np.int16)  # which numpy sorts by counting
        order = np.argsort(slots, kind="stable")
        step, lane, slots = step[order], lane[order], slots[order]
        drawn = self.drawn[step, lane]
        chosen = self.logprobs(self.logits[step, lane], drawn)
        ids, stretches, start = drawn.tolist(), [], 0
        for end in [*(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(ids)] if ids else []:
            slot = int(slots[start])
            reason = left.get(slot)
            stretches.append(Stretch(slot, ids[start:end], chosen[start:end], reason))
            start = end
        return stretches

    def logprobs(self, logits: Array, drawn: Array) -> list[float]:
        """Of the symbols that were drawn (N,), from their logits without the output bias (N, V),
        overwritten.
        """
        logits += self._out_bias
        logprobs: list[float] = chosen_log_softmax(logits, drawn).tolist()
        if not math.isfinite(sum(logprobs)):
            raise WeightsCorruptError(
                "the network's logits must be finite, and are not: its weights are of no use; "
                "train it again, or go back to an earlier version"
            )
        return logprobs
