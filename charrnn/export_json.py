"""A network as one small JSON file, for a page in a browser or a small device: docs/export.md
describes the format, and examples/portable/reader.py reads it with nothing but Python.

Matrices are written in 8 bits (a scale for each column), in float16 or in float32, in base64. What
that costs is measured, in nats per symbol, and stands in the file.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from charrnn.config import AS_DRAWN, CorpusConfig
from charrnn.errors import ConfigError, FieldProblem, WeightsFormatError, shown
from charrnn.evaluation import evaluate
from charrnn.export import described
from charrnn.files import canonical_json
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.parameters import Array, Parameters
from charrnn.splits import split

FORMAT = 1
CELLS = ("rnn", "lstm", "gru")  # that the format describes
LARGEST_INT8 = 127
OWN_TEXTS, OWN_LENGTH = 64, 256  # to measure on, where there are no held-out names


@dataclass(frozen=True)
class Price:
    """What the shorter numbers cost: nats per symbol before and after, on some texts."""

    texts: str
    symbols: int
    exact: float
    exported: float


def json_file(generator: Generator, numbers: str) -> tuple[bytes, Price]:
    """The model as JSON, and what it costs.

    Args:
        generator: the model, of characters.
        numbers: how matrices are written: int8, float16 or float32.

    Raises ConfigError for a model of words, for a cell that the format doesn't describe, and for
    weights that float16 can't hold.
    """
    _check(generator)
    params = generator.model.params
    arrays = {
        name: _written(name, array, numbers if array.ndim == 2 else "float32")
        for name, array in params.items()
    }
    price = _price(generator, {name: as_read(array) for name, array in arrays.items()})
    about = {key: value for key, value in described(generator).items() if key != "unit"}
    whole = {
        "charrnn": FORMAT,
        **about,
        "numbers": numbers,
        "nats_per_symbol": asdict(price),
        "arrays": arrays,
    }
    return canonical_json(whole).encode() + b"\n", price


def as_read(written: Mapping[str, Any]) -> Array:
    """The float32 array that an entry of `arrays` stands for."""
    shape, data = tuple(written["shape"]), base64.b64decode(written["data"])
    if written["type"] != "int8":
        kind = {"float16": "<f2", "float32": "<f4"}[written["type"]]
        return np.frombuffer(data, kind).reshape(shape).astype(np.float32)
    scales = np.frombuffer(base64.b64decode(written["scales"]), "<f4")  # (columns,)
    return np.frombuffer(data, np.int8).reshape(shape) * scales


def _check(generator: Generator) -> None:
    problems = []
    unit, cell = generator.vocabulary.unit, generator.model.config.cell
    if unit != "character":
        rule = "must be character to be exported as JSON (give --to onnx or --to torch)"
        problems.append(FieldProblem("unit", rule, repr(unit)))
    if cell not in CELLS:
        rule = f"must be one that the format describes ({', '.join(CELLS)}) to be exported as JSON"
        problems.append(FieldProblem("cell", rule, repr(cell)))
    if problems:
        raise ConfigError(problems)


def _written(name: str, array: Array, numbers: str) -> dict[str, Any]:
    """An array as the file has it: (rows, columns) one row after the other, little-endian."""
    entry: dict[str, Any] = {"shape": list(array.shape), "type": numbers}
    if numbers == "int8":
        scales = (np.abs(array).max(axis=0) / LARGEST_INT8).astype("<f4")  # (columns,)
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.nan_to_num(np.rint(array / scales), posinf=0, neginf=0)
        whole = np.clip(steps, -LARGEST_INT8, LARGEST_INT8).astype(np.int8)
        return {**entry, "scales": _base64(scales), "data": _base64(whole)}
    with np.errstate(over="ignore"):
        short = array.astype({"float16": "<f2", "float32": "<f4"}[numbers])
    if not np.isfinite(short).all():
        largest = shown(float(np.abs(array).max()))
        rule = f"must be float32 or int8 for weights such as those of {name}, up to {largest}"
        raise ConfigError([FieldProblem("numbers", rule, repr(numbers))])
    return {**entry, "data": _base64(short)}


def _base64(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _price(generator: Generator, arrays: Mapping[str, Array]) -> Price:
    """The loss of the weights as they were, and as they are written."""
    name, texts = _texts(generator)
    exported = CharRNN(generator.model.config, Parameters.from_arrays(arrays))
    work, vocabulary = Workspace(), generator.vocabulary
    before, after = (
        evaluate(model, texts, vocabulary, work) for model in (generator.model, exported)
    )
    return Price(name, before.characters, before.nats_per_character, after.nats_per_character)


def _texts(generator: Generator) -> tuple[str, Sequence[str]]:
    """Texts to measure on, and what they are: names that training never saw; where the weights hold
    no list, texts that the model writes itself, on which the loss can hardly but rise.
    """
    frozen = generator.frozen
    if frozen.names and "recipe" in frozen.provenance:
        held_out = split(frozen.names, CorpusConfig.checked(frozen.provenance["recipe"]["corpus"]))
        if held_out["test"]:
            return "test names", held_out["test"]
    settings = {"count": OWN_TEXTS, "max_length": OWN_LENGTH, "random_seed": 0, **AS_DRAWN}
    texts = [generator.vocabulary.match(each.text) for each in generator.generate("", **settings)]
    texts = [text for text in texts if generator.vocabulary.length(text) > 1]
    if not texts:
        raise WeightsFormatError(
            f"model {generator.name!r} writes only empty texts: nothing can be measured on them; "
            "train it longer"
        )
    return "texts of its own", texts
