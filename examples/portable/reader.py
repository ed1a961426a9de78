"""Reads what `python -m charrnn export MODEL --to json` writes, with nothing but Python: the
reference of the format, which docs/export.md describes.

    python examples/portable/reader.py dinosaurs.json --seed Tyr --count 5

A number for each weight and a loop for each sum: slow, and short. `step` is the network; `write`
draws a text from it. Copy it to where you need it.
"""

import argparse
import base64
import json
import math
import random
import re
import struct
import sys
import unicodedata
from collections.abc import Callable
from operator import mul
from pathlib import Path
from typing import Any

Vector = list[float]
State = list[list[Vector]]  # by layer, then by part: h, and of an LSTM c

NUMBERS = {"int8": "b", "float16": "e", "float32": "f"}  # the letters of `struct`


class Matrix:
    """Numbers in columns, so that a product is a sum for each; int8 has a scale for each column."""

    def __init__(self, entry: dict[str, Any]) -> None:
        columns = entry["shape"][1]
        flat = unpacked(entry["data"], NUMBERS[entry["type"]])
        self.columns = [flat[j::columns] for j in range(columns)]
        scales = entry.get("scales")
        self.scales = unpacked(scales, "f") if scales else [1.0] * columns

    def row(self, i: int) -> Vector:
        return [column[i] * scale for column, scale in zip(self.columns, self.scales, strict=True)]

    def product(self, x: Vector) -> Vector:
        """x times the matrix."""
        return [
            sum(map(mul, x, c)) * scale for c, scale in zip(self.columns, self.scales, strict=True)
        ]


class Model:
    """A network from a file's text: a step of it, and texts."""

    def __init__(self, text: str | bytes) -> None:
        try:
            about = json.loads(text)
        except ValueError:
            about = None
        if not isinstance(about, dict) or about.get("charrnn") != 1:
            raise ValueError("not a file that `python -m charrnn export --to json` wrote")
        self.about, self.symbols = about, about["symbols"]
        self.ids = {symbol: id_ for id_, symbol in enumerate(self.symbols)}
        self.matrices: dict[str, Matrix] = {}
        self.biases: dict[str, Vector] = {}
        for name, entry in about["arrays"].items():
            if len(entry["shape"]) == 2:
                self.matrices[name] = Matrix(entry)
            else:
                self.biases[name] = unpacked(entry["data"], "f")
        self.cell = {"rnn": self._rnn, "lstm": self._lstm, "gru": self._gru}[about["cell"]]

    def start(self) -> State:
        """The state before the first symbol: zeros."""
        parts = 2 if self.about["cell"] == "lstm" else 1
        zero = [0.0] * self.about["hidden_size"]
        return [[zero] * parts for _ in range(self.about["num_layers"])]

    def step(self, id_: int, state: State) -> tuple[Vector, State]:
        """Read a symbol: the logits of the next one, and the new state."""
        x: Vector = []
        after: State = []
        for n, before in enumerate(state):
            U = self.matrices[f"layers.{n}.U"]
            a = plus(U.product(x) if n else U.row(id_), self.biases[f"layers.{n}.b"])
            p = self.matrices[f"layers.{n}.W"].product(before[0])
            after.append(self.cell(n, blocks(a, len(before[0])), blocks(p, len(before[0])), before))
            x = after[-1][0]
        return plus(self.matrices["out.V"].product(x), self.biases["out.c"]), after

    def _rnn(self, n: int, a: list[Vector], p: list[Vector], before: list[Vector]) -> list[Vector]:
        return [list(map(math.tanh, plus(a[0], p[0])))]

    def _lstm(self, n: int, a: list[Vector], p: list[Vector], before: list[Vector]) -> list[Vector]:
        i, f, o = ([sigmoid(v) for v in plus(a[k], p[k])] for k in range(3))
        g = map(math.tanh, plus(a[3], p[3]))
        c = [fk * ck + ik * gk for fk, ck, ik, gk in zip(f, before[1], i, g, strict=True)]
        return [[ok * math.tanh(ck) for ok, ck in zip(o, c, strict=True)], c]

    def _gru(self, n: int, a: list[Vector], p: list[Vector], before: list[Vector]) -> list[Vector]:
        r, z = ([sigmoid(v) for v in plus(a[k], p[k])] for k in range(2))
        q = plus(p[2], self.biases[f"layers.{n}.b_h"])
        new = [math.tanh(ak + rk * qk) for ak, rk, qk in zip(a[2], r, q, strict=True)]
        return [[(1 - zk) * nk + zk * hk for zk, nk, hk in zip(z, new, before[0], strict=True)]]

    def read(self, text: str) -> tuple[Vector, State]:
        """The logits and the state after the start symbol and a text."""
        ids = [self._id(symbol) for symbol in self.matched(text)]
        logits, state = self.step(self.about["start"], self.start())
        for id_ in ids:
            logits, state = self.step(id_, state)
        return logits, state

    def matched(self, text: str) -> str:
        """A text as the model reads it."""
        text = unicodedata.normalize("NFC", text)
        return text if self.about["case"] == "keep" else unicodedata.normalize("NFC", text.lower())

    def _id(self, symbol: str) -> int:
        id_ = self.ids.get(symbol, self.about["unknown"])
        if id_ is None or id_ == self.about["end"]:
            raise ValueError(f"character {symbol!r} is unknown to this model")
        return id_

    def write(
        self,
        seed: str = "",
        *,
        temperature: float = 1.0,
        max_length: int | None = None,
        stop: str = "",
        chance: Callable[[], float] = random.random,
    ) -> str:
        """A text that begins with `seed`, until its end symbol, `stop` or `max_length` characters.
        `chance` gives numbers from 0 up to 1, one for each character.
        """
        logits, state = self.read(seed)
        text, longest = self.matched(seed), max_length or self.about["max_length"]
        seeded = len(text)
        while len(text) < longest:
            never = {self.about["unknown"]} | (set() if text else {self.about["end"]})
            id_ = drawn(logits, temperature, never, chance())
            if id_ == self.about["end"]:
                break
            text += self.symbols[id_]
            if stop and text.endswith(stop, seeded):
                text = text[: -len(stop)]
                break
            logits, state = self.step(id_, state)
        return capitals(text, self.about["case"])


def unpacked(text: str, letter: str) -> Vector:
    """The numbers in base64, little-endian."""
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data))


def plus(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def blocks(a: Vector, size: int) -> list[Vector]:
    """A block for each gate: LSTM i f o g, GRU r z n."""
    return [a[k : k + size] for k in range(0, len(a), size)]


def sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(0.5 * x)  # no overflow, either way


def drawn(logits: Vector, temperature: float, never: set[int | None], chance: float) -> int:
    """An id by its probability; the likeliest at temperature 0, and the first of those."""
    able = [id_ for id_ in range(len(logits)) if id_ not in never]
    best = max(able, key=lambda id_: logits[id_])
    if not temperature:
        return best
    weights = [math.exp((logits[id_] - logits[best]) / temperature) for id_ in able]
    left = chance * sum(weights)
    for id_, weight in zip(able, weights, strict=True):
        left -= weight
        if left < 0:
            return id_
    return best


def capitals(text: str, case: str) -> str:
    """A text as people write it: a capital first, or with `title` for each word."""
    starts = {"keep": r"(?!)", "sentence": r"\A\w", "title": r"(?:\A|(?<=[\s\-]))\w"}[case]
    return re.sub(starts, lambda m: m[0].upper() if len(m[0].upper()) == 1 else m[0], text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw texts from an exported model.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", default="")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--stop", default="")
    parser.add_argument("--random-seed", type=int)
    given = parser.parse_args()
    try:
        model = Model(given.model.read_bytes())
        chance = random.Random(given.random_seed).random
        for _ in range(given.count):
            settings = {"temperature": given.temperature, "max_length": given.max_length}
            print(model.write(given.seed, stop=given.stop, chance=chance, **settings), flush=True)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {given.model}: {getattr(error, 'strerror', error)}")


if __name__ == "__main__":
    main()
