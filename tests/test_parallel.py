"""The gradient by several threads: that of the whole batch, whatever the threads do when."""

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.model import Batch, CharRNN
from charrnn.ops import Workspace
from charrnn.parallel import Team, split

V = 9


def unequal_batch(rng, lengths=(7, 7, 6, 4, 4, 3, 1)):
    sizes = (np.array(lengths) > np.arange(lengths[0])[:, None]).sum(axis=1)
    ids, targets = rng.integers(0, V, (2, sizes.sum()))
    return Batch(ids, targets, sizes)


def network(cell, layers=2, dtype=np.float64, dropout=0.0):
    config = ModelConfig(cell=cell, hidden_size=6, num_layers=layers, vocab_size=V, dropout=dropout)
    return CharRNN.initialized(config, np.random.default_rng(0), dtype)


def rows_of(batch, sequence):
    starts = np.cumsum(batch.sizes) - batch.sizes
    return [
        start + sequence for start, size in zip(starts, batch.sizes, strict=True) if sequence < size
    ]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 9])
def test_a_part_has_every_nth_sequence_whole_and_in_order(parts):
    batch = unequal_batch(np.random.default_rng(0))
    shares = split(batch, parts)
    assert len(shares) == min(parts, 7)
    for sequence in range(7):
        share = shares[sequence % parts]
        for whole, part in ((batch.ids, share.ids), (batch.targets, share.targets)):
            mine = part[rows_of(share, sequence // parts)]
            assert np.array_equal(mine, whole[rows_of(batch, sequence)])
    assert sum(len(share.ids) for share in shares) == len(batch.ids)
    for share in shares:
        assert (np.diff(share.sizes) <= 0).all()
        assert share.sizes.sum() == len(share.ids)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_threads_find_the_gradient_loss_and_states_of_the_whole_batch(cell, threads):
    rng, model = np.random.default_rng(1), network(cell)
    batch, state = unequal_batch(rng), rng.normal(size=model.init_state(7).shape)
    expected = model.params.like()
    loss, final, _ = model.loss_and_grads(batch, state, expected, Workspace())
    assert np.abs(expected.flat).max() > 0.01
    team, grads = Team(model, threads, Workspace()), model.params.like()
    for _ in range(2):  # in buffers that were used, too
        grads.flat[:] = np.nan
        found, last = team.loss_and_grads(batch, state, grads, [None] * threads)
        assert abs(found - loss) < 1e-14
        assert np.abs(last - final).max() < 1e-14
        assert np.abs(grads.flat - expected.flat).max() < 1e-14
    other = unequal_batch(rng, (9, 5, 5, 2))
    team.loss_and_grads(other, state[:, :, :4], grads, [None] * threads)
    team.loss_and_grads(batch, state, grads, [None] * threads)
    assert np.abs(grads.flat - expected.flat).max() < 1e-14


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_threads_find_the_same_bits_again(cell):
    model = network(cell, dtype=np.float32, dropout=0.3)
    batch, state = unequal_batch(np.random.default_rng(1)), model.init_state(7)
    found = []
    for _ in range(20):
        grads = model.params.like()
        rngs = [np.random.default_rng(k) for k in range(3)]
        Team(model, 3, Workspace()).loss_and_grads(batch, state, grads, rngs)
        found.append(grads.flat.tobytes())
    assert len(set(found)) == 1


def test_what_a_thread_raises_is_raised_when_all_have_stopped():
    class Broken(CharRNN):
        def loss_and_grads(self, batch, *others, **named):
            if len(batch.ids) == broken:
                raise MemoryError
            return super().loss_and_grads(batch, *others, **named)

    whole = network("gru")
    model = Broken(whole.config, whole.params)
    batch = unequal_batch(np.random.default_rng(1))
    for share in split(batch, 2):
        broken = len(share.ids)
        team = Team(model, 2, Workspace())
        with pytest.raises(MemoryError):
            team.loss_and_grads(batch, model.init_state(7), model.params.like(), [None, None])
        broken = -1
        team.loss_and_grads(batch, model.init_state(7), model.params.like(), [None, None])
