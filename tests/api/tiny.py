"""Real weights of networks too small to have learned anything, made in milliseconds."""

import json
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import charrnn
from charrnn.config import ModelConfig
from charrnn.files import write_atomically
from charrnn.model import CharRNN
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel, to_bytes

NAMES = ("tyrannosaurus", string.ascii_lowercase[:13], string.ascii_lowercase[13:])
DAMAGED = "bad0" * 16  # a version of dinosaurs whose bytes are not those it is named by


@dataclass(frozen=True)
class Tiny:
    """A weights folder: dinosaurs (an old version, the live one, a damaged one), elves, prose, and
    where it is asked for `rex`, which chats.
    """

    store: charrnn.Store
    old: str  # full versions of dinosaurs
    live: str

    @property
    def root(self) -> str:
        return str(self.store.root)


def make(root: Path, *, chats: bool = False) -> Tiny:
    """Write the folder."""
    store = charrnn.Store(root)
    old, live = (promote(store, "dinosaurs", seed=seed) for seed in (0, 1))
    (root / "dinosaurs" / f"{DAMAGED}.safetensors").write_bytes(b"damaged")
    promote(store, "elves", seed=2)
    promote(store, "prose", seed=3, kind="text")
    if chats:
        promote(store, "rex", seed=4, kind="chat")
    return Tiny(store, old, live)


def promote(store: charrnn.Store, name: str, *, seed: int, kind: str = "names") -> str:
    """Make a network of random weights the live one. Returns its full version."""
    is_names = kind == "names"
    texts = (*NAMES, "> ?\n.") if kind == "chat" else NAMES
    vocabulary = Vocabulary.of(texts, ends=is_names, case="title" if is_names else "keep")
    config = ModelConfig(cell="rnn", hidden_size=4, vocab_size=len(vocabulary))
    model = CharRNN.initialized(config, np.random.default_rng(seed))
    frozen = FrozenModel(kind, config, model.params, vocabulary, NAMES if is_names else ())
    version = store.add(name, to_bytes(frozen))
    store.promote(name, version, reason="a test")
    return version


def promote_damaged(store: charrnn.Store, name: str, number: int) -> str:
    """Make a file that is no network the live one, as no tool of ours would. Returns its name."""
    version = f"{number:064x}"
    (store.folder(name) / f"{version}.safetensors").write_bytes(b"damaged")
    record = json.dumps({"version": version}).encode()
    write_atomically(store.folder(name) / "CURRENT.json", record)
    return version
