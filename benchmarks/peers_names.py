"""The references of `quality.py`: generators of names as people write them in torch, a few lines
each; imported where torch is installed.

The recurrent ones are torch's layers as they come (256 units, Adam at its default rate of 1e-3).
The Transformer is of the size and the training that public name generators take: 4 blocks of 4
heads, 64 wide, about 200,000 parameters, AdamW at 5e-4. All have batches of 32 names, see the same
names as ours, and are kept as they were when they predicted the validation names best.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

BATCH, LOOKS = 32, 40  # names in a batch; looks at the validation names in the time allowed
PADDING = -1  # a target that doesn't count


class Recurrent(nn.Module):  # type: ignore[misc]  # torch may be absent
    """Embedding, one recurrent layer, linear: everything as torch sets it."""

    def __init__(self, layer: type[nn.LSTM] | type[nn.GRU], vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.layer = layer(width, width, batch_first=True)
        self.output = nn.Linear(width, vocab_size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.output(self.layer(self.embedding(ids))[0])


class Transformer(nn.Module):  # type: ignore[misc]
    """Learned positions, blocks with the norm first, GELU: (B, T) ids to (B, T, V) logits."""

    def __init__(self, vocab_size: int, longest: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(longest, width)
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, blocks, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.output = nn.Linear(width, vocab_size, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        T = ids.shape[1]
        x = self.embedding(ids) + self.positions.weight[:T]
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        return self.output(self.blocks(x, mask=mask, is_causal=True))


@dataclass(frozen=True)
class Reference:
    """What trains under a name: a network for (vocabulary, longest name with its end), its rate."""

    network: Callable[[int, int], nn.Module]
    rate: float
    optimizer: type[torch.optim.Optimizer]


REFERENCES = {
    "torch LSTM 256": Reference(lambda V, T: Recurrent(nn.LSTM, V, 256), 1e-3, torch.optim.Adam),
    "torch GRU 256": Reference(lambda V, T: Recurrent(nn.GRU, V, 256), 1e-3, torch.optim.Adam),
    "torch Transformer 4 x 64": Reference(Transformer, 5e-4, torch.optim.AdamW),
}


@dataclass(frozen=True)
class Outcome:
    """Nats per character of the test names (ends included), by the network as it was when it
    predicted the validation names best; and what it took, seconds of the processor.
    """

    test: float
    validation: float
    parameters: int
    seconds: float
    steps: int


def trained(
    reference: Reference, sides: dict[str, Sequence[str]], symbols: str, seconds: float, seed: int
) -> Outcome:
    """A reference trained for so many seconds of the processor, on one thread.

    Args:
        reference: what to train.
        sides: the names of each split, as our network reads them.
        symbols: the vocabulary, with a newline for start and end.
        seconds: processor time, looks at the validation names included.
        seed: of the start and of the batches.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    longest = max(len(name) for names in sides.values() for name in names) + 1
    data = {side: _packed(names, symbols, longest) for side, names in sides.items()}
    network = reference.network(len(symbols), longest)
    optimizer = reference.optimizer(network.parameters(), lr=reference.rate)
    best, kept, began, looked, steps = float("inf"), None, time.process_time(), 0, 0
    while (spent := time.process_time() - began) < seconds:
        if spent >= (looked + 1) * seconds / LOOKS:
            looked += 1
            loss = _loss(network, *data["validation"])
            if loss < best:
                best, kept = loss, copy.deepcopy(network.state_dict())
        chosen = torch.randint(len(data["train"][0]), (BATCH,))
        ids, targets = _cropped(*(each[chosen] for each in data["train"]))
        logits = network(ids)
        loss_node = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING
        )
        optimizer.zero_grad(set_to_none=True)
        loss_node.backward()
        optimizer.step()
        steps += 1
    loss = _loss(network, *data["validation"])
    if kept is not None and loss > best:
        network.load_state_dict(kept)
    took = time.process_time() - began
    count = sum(p.numel() for p in network.parameters())
    return Outcome(_loss(network, *data["test"]), min(best, loss), count, took, steps)


def _packed(names: Sequence[str], symbols: str, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and targets, (N, T) each; what is behind a name's end doesn't count."""
    place = {symbol: k for k, symbol in enumerate(symbols)}
    ids = torch.full((len(names), longest), place["\n"])
    targets = torch.full((len(names), longest), PADDING)
    for row, name in enumerate(names):
        own = torch.tensor([place[symbol] for symbol in name + "\n"])
        targets[row, : len(own)] = own
        ids[row, 1 : len(own)] = own[:-1]
    return ids, targets


def _cropped(ids: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Without the columns that are padding in every row."""
    T = int((targets != PADDING).sum(1).max())
    return ids[:, :T], targets[:, :T]


@torch.no_grad()
def _loss(network: nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> float:
    """Nats per character."""
    total = 0.0
    for start in range(0, len(ids), 500):
        rows = slice(start, start + 500)
        own, wanted = _cropped(ids[rows], targets[rows])
        total += functional.cross_entropy(
            network(own).flatten(0, 1), wanted.flatten(), ignore_index=PADDING, reduction="sum"
        ).item()
    return total / int((targets != PADDING).sum())
