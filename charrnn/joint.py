"""What a rank does of a training that several make together: its part of a batch, what they agree
on in each step, and where they begin. How they exchange it is `ranks`' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.checkpoint import Progress, decoded, encoded
from charrnn.dropping import Share
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.packed import Batch, parts_of
from charrnn.parallel import part_of
from charrnn.parameters import Array, Parameters
from charrnn.ranks import Ranks


@dataclass(frozen=True)
class News:
    """What comes after a step: whether to stop, or to save, and how many seconds have gone."""

    stop: bool = False
    save: bool = False
    seconds: float = 0.0


def own_part(
    ranks: Ranks,
    model: CharRNN,
    batch: Batch,
    state: Array,
    grads: Parameters,
    work: Workspace,
    seed: Sequence[int] | None,
) -> tuple[float, Array]:
    """A rank's part of the mean loss of a batch and, in `grads`, of its gradient: those of all
    ranks add up to them.

    Args:
        batch: the whole one; with fewer sequences than ranks, some ranks rest.
        state: (L, S, B, H) of the whole batch, right for this rank's sequences.
        seed: of the whole batch's dropout masks; None for no dropout.

    Returns:
        The part of the loss, and the last states (L, S, B, H), right for the same sequences.
    """
    if ranks.number >= int(batch.sizes[0]):
        grads.flat[:] = 0
        return 0.0, state
    part, own = part_of(batch, ranks.number, ranks.count), slice(ranks.number, None, ranks.count)
    share = Share(ranks.number, ranks.count, parts_of(batch)) if seed else None
    rng = np.random.default_rng(seed) if seed else None
    loss, last, _ = model.loss_and_grads(part, state[:, :, own], grads, work, rng=rng, share=share)
    final = state.copy()
    final[:, :, own] = last
    return loss, final


def agreed(ranks: Ranks, gradient: Array, loss: float, own: News) -> tuple[float, News]:
    """Add up the gradient, in place, and the loss of all ranks. They stop when one of them is asked
    to, and save when the first one would; the time is the first one's too.
    """
    told = ranks.add(gradient, np.array([loss, own.stop, own.save, own.seconds]))  # (R, 4)
    news = News(bool(told[:, 1].any()), bool(told[0, 2]), float(told[0, 3]))
    return float(sum(told[:, 0].tolist())), news


def gather_state(ranks: Ranks, state: Array) -> None:
    """Make a state (L, S, B, H) right for all sequences, of which each rank has carried on its own;
    in place.
    """
    own = np.ascontiguousarray(state[:, :, ranks.number :: ranks.count])
    for k, data in enumerate(ranks.exchange(own.tobytes())):
        theirs = state[:, :, k :: ranks.count]
        theirs[...] = np.frombuffer(data, own.dtype).reshape(theirs.shape)


def take_up(
    ranks: Ranks, progress: Progress, arrays: Mapping[str, Array]
) -> tuple[Progress, Array]:
    """Begin where rank 0 does: with a checkpoint, with older weights, or as all do.

    `arrays` become those of rank 0, in place, but for "state", which may have another shape.
    Returns the progress and the state.
    """
    progress, state = decoded(ranks.from_first(encoded(progress))), arrays["state"]
    for name, array in arrays.items():
        found = ranks.array_from_first(array)
        if name == "state":
            state = found
        else:
            array[...] = found
    return progress, state
