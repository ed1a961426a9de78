"""From gradients to steps: clipping, schedules, and update rules over flat vectors.

A rule's memory (`moments`) is flat vectors too, so a checkpoint is a copy of them. Each number is
updated by itself: whoever updates which block, the bits are the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from charrnn import lines
from charrnn.config import TrainConfig
from charrnn.parameters import Array, Parameters

BLOCK = 32_768  # elements updated at a time: the vectors of a block stay in the cache


def clip_by_value(gradient: Array, limit: float) -> None:
    """Each component to within ±limit, in place (Karpathy's minimal character RNN: 5)."""
    np.clip(gradient, -limit, limit, out=gradient)


def clip_by_norm(gradient: Array, limit: float) -> float:
    """Scale the whole gradient down to a Euclidean norm of `limit`, in place; 0 for no limit.
    Returns the norm that it had; where that isn't finite, the gradient is left as it is.

    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural
    networks", algorithm 1.
    """
    with np.errstate(over="ignore"):  # infinite is an answer too
        norm = math.sqrt(float(np.dot(gradient, gradient)))
    if 0 < limit < norm < math.inf:
        gradient *= gradient.dtype.type(limit / norm)
    return norm


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """The rate of a step (counted from 0) at `progress` from 0 to 1 through the budget."""
    shape = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[config.schedule]
    if config.schedule != "constant":
        shape = config.final_rate + (1 - config.final_rate) * shape
    risen = (step + 1) / (config.warmup_steps + 1)
    if config.warmup_share:
        risen = max(risen, progress / config.warmup_share)
    return config.learning_rate * shape * min(1.0, risen)


class Optimizer(ABC):
    """An update rule. `moments` holds its memory, flat vectors by name."""

    memories: ClassVar[tuple[str, ...]] = ()
    """The names of its moments."""
    decoupled: ClassVar[bool] = False
    """Whether weight decay shrinks the weights themselves, or is added to their gradient."""

    def __init__(
        self, params: Parameters, config: TrainConfig, moments: Sequence[Array] | None = None
    ) -> None:
        """moments: where they stand, zeros; None for arrays of its own."""
        self.config = config
        moments = moments or [lines.zeros_like(params.flat) for _ in self.memories]
        self.moments: dict[str, Array] = dict(zip(self.memories, moments, strict=True))
        self._scratch = lines.empty(min(BLOCK, params.flat.size), params.flat.dtype)
        # Weights decay, biases don't: they are few, and shrinking them only shifts the function.
        self._weights = [params.slices[name] for name in params if params[name].ndim == 2]

    def step(
        self,
        params: Array,
        gradient: Array,
        rate: float,
        count: int,
        *,
        number: int = 0,
        parts: int = 1,
    ) -> None:
        """Update `params` in place.

        Args:
            params, gradient: flat vectors; coupled weight decay is added into the gradient.
            rate: the learning rate.
            count: updates so far, this one included.
            number, parts: of so many parts, which no two have a number in common, this one alone.
        """
        for start in range(number * BLOCK, params.size, parts * BLOCK):
            block = slice(start, min(start + BLOCK, params.size))
            if self.config.weight_decay:
                self._decay(params, gradient, block, rate)
            scratch = self._scratch[: block.stop - start]
            self._update(params[block], gradient[block], block, scratch, rate, count)

    def _decay(self, params: Array, gradient: Array, block: slice, rate: float) -> None:
        """Weight decay of a block of the parameters."""
        decay, real = self.config.weight_decay, params.dtype.type
        for weights in self._weights:
            some = slice(max(weights.start, block.start), min(weights.stop, block.stop))
            if some.start >= some.stop:
                continue
            if self.decoupled:
                params[some] *= real(1 - rate * decay)
            else:
                gradient[some] += real(decay) * params[some]

    @abstractmethod
    def _update(
        self, p: Array, g: Array, block: slice, scratch: Array, rate: float, count: int
    ) -> None:
        """Update a block of parameters `p` by its gradient `g`."""


class SGD(Optimizer):
    """p -= rate * g."""

    def _update(
        self, p: Array, g: Array, block: slice, scratch: Array, rate: float, count: int
    ) -> None:
        np.multiply(g, p.dtype.type(rate), scratch)
        p -= scratch


class Adagrad(Optimizer):
    """s += g^2; p -= rate * g / sqrt(s + epsilon) (Duchi, Hazan & Singer 2011, JMLR 12).

    epsilon stands inside the root, as in Karpathy's minimal character RNN.
    """

    memories = ("squares",)

    def _update(
        self, p: Array, g: Array, block: slice, scratch: Array, rate: float, count: int
    ) -> None:
        squares, real = self.moments["squares"][block], p.dtype.type
        np.multiply(g, g, scratch)
        squares += scratch
        np.add(squares, real(self.config.epsilon), scratch)
        np.sqrt(scratch, scratch)
        np.divide(g, scratch, scratch)
        scratch *= real(rate)
        p -= scratch


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1).

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    p -= rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)

    Kept are m / (1 - b1) and v / (1 - b2), which take two multiplications less.
    """

    memories = ("mean", "square")

    def _update(
        self, p: Array, g: Array, block: slice, scratch: Array, rate: float, count: int
    ) -> None:
        c, real = self.config, p.dtype.type
        mean, square = self.moments["mean"][block], self.moments["square"][block]
        mean *= real(c.beta1)
        mean += g
        square *= real(c.beta2)
        np.multiply(g, g, scratch)
        square += scratch
        # What m and v lack, and both corrections, move into epsilon and the rate.
        root = math.sqrt((1 - c.beta2**count) / (1 - c.beta2))
        lacking = (1 - c.beta1) / (1 - c.beta1**count)
        np.sqrt(square, scratch)
        scratch += real(c.epsilon * root)
        np.divide(mean, scratch, scratch)
        scratch *= real(rate * root * lacking)
        p -= scratch


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), where the decay is
    a multiple of the learning rate, as in PyTorch: p *= 1 - rate * weight_decay.
    """

    decoupled = True


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
}
