"""The weights file: one safetensors file that holds a network and all that it needs.

Parameters as arrays under their own names, the list of names it learned from as bytes, and one
metadata key with canonical JSON: format, configuration, vocabulary, provenance, evaluation, and
the SHA-256 of all the rest. No date in it, so one recipe on one machine gives one file.
Where files lie, and which is live, is the store's business.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from charrnn.config import ModelConfig
from charrnn.errors import WeightsCorruptError, WeightsFormatError, WeightsMissingError, shown
from charrnn.files import canonical_json
from charrnn.model import parameter_shapes
from charrnn.namelist import from_text, to_text
from charrnn.parameters import Array, Parameters
from charrnn.wordlist import AnyVocabulary, WordVocabulary, vocabulary_from_json

FORMAT = 1
# With a vocabulary of words, or with an unknown symbol: who knows but the first must not read them.
FORMAT_OF_WORDS = 2
NAMES = "corpus.names"
METADATA_KEY = "charrnn"
KINDS = ("names", "text", "chat")


@dataclass(frozen=True)
class FrozenModel:
    """A trained network, frozen: its arrays are read-only.

    provenance: recipe, random seed, data (hash, size), versions; evaluation: losses by split.
    names: the whole list that it was trained and tested on, as the model reads it.
    """

    kind: str
    config: ModelConfig
    params: Parameters
    vocabulary: AnyVocabulary
    names: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def to_bytes(model: FrozenModel) -> bytes:
    """The weights file of a model. Raises WeightsFormatError for weights that aren't finite."""
    with np.errstate(over="ignore"):  # what float32 can't hold is found below
        arrays = {name: array.astype(np.float32) for name, array in model.params.items()}
    _check_finite(arrays, "the weights to be saved")
    if model.names:
        arrays[NAMES] = np.frombuffer(to_text(model.names), np.uint8)
    vocabulary = model.vocabulary
    metadata = {
        "format": FORMAT if vocabulary.unknown is None else FORMAT_OF_WORDS,
        "kind": model.kind,
        "config": model.config.values(),
        "vocabulary": vocabulary.to_json(),
        "provenance": dict(model.provenance),
        "evaluation": dict(model.evaluation),
    }
    return pack_arrays(arrays, metadata)


def from_bytes(data: bytes, where: str = "weights") -> FrozenModel:
    """The model in a weights file; `where` names it in errors.

    Raises WeightsCorruptError (not the bytes that were written) and WeightsFormatError (whole, but
    no network that this version can load).
    """
    arrays, metadata = unpack_arrays(data, where)
    if metadata.get("format") not in (FORMAT, FORMAT_OF_WORDS):
        raise WeightsFormatError(
            f"{where}: weights of format {metadata.get('format')!r}; this version reads formats "
            f"{FORMAT} and {FORMAT_OF_WORDS}: install the version of charrnn that wrote it, or "
            "train again"
        )
    try:
        config = ModelConfig.checked(metadata["config"])
        shapes = parameter_shapes(config)
        vocabulary = vocabulary_from_json(metadata["vocabulary"])
        kind, *notes = (metadata[key] for key in ("kind", "provenance", "evaluation"))
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
        of_words = isinstance(vocabulary, WordVocabulary)
        if (kind == "names" or of_words) != (vocabulary.end is not None):
            raise ValueError("names must have an end symbol, and running text none")
        if kind == "names" and of_words:
            raise ValueError("names must be of characters")
        provenance, evaluation = map(_object, notes)
        names = _names(arrays.pop(NAMES, np.empty(0, np.uint8)))
    except KeyError as error:
        raise WeightsFormatError(f"{where}: it doesn't say its {error}; train again") from None
    except (TypeError, ValueError, WeightsFormatError) as error:
        raise WeightsFormatError(
            f"{where}: its description is not one of ours: {error}; train again"
        ) from None
    if len(vocabulary) != config.vocab_size:
        raise WeightsFormatError(
            f"{where}: a vocabulary of {len(vocabulary)} symbols for a network of "
            f"{config.vocab_size}; train again"
        )
    params = _parameters(arrays, shapes, where).freeze()
    return FrozenModel(kind, config, params, vocabulary, names, provenance, evaluation)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"provenance and evaluation must be objects, got {shown(value)}")
    return value


def _names(array: Array) -> Sequence[str]:
    if array.dtype != np.uint8:
        raise TypeError(f"{NAMES} must be uint8, got {array.dtype}")
    return from_text(array.tobytes())


def read_file(path: Path) -> bytes:
    """A weights file's bytes, checked against its name where that is a SHA-256.

    Raises WeightsMissingError and WeightsCorruptError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WeightsMissingError(
            f"{path}: no such weights file; `python -m charrnn models` lists what there is"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise WeightsMissingError(
            f"{path}: can't be read: {getattr(error, 'strerror', error)}; give a weights file: "
            "`python -m charrnn models` lists what there is"
        ) from None
    if re.fullmatch(r"[0-9a-f]{64}", path.stem) and sha256_of(data) != path.stem:
        raise WeightsCorruptError(
            f"{path}: its bytes are not those it is named by (truncated or altered); restore it "
            "from a copy, or train again"
        )
    return data


def sha256_of(data: bytes) -> str:
    """The name of a weights file with these bytes."""
    return hashlib.sha256(data).hexdigest()


def pack_arrays(arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> bytes:
    """Arrays and JSON as safetensors, sealed by a SHA-256 of both."""
    # safetensors writes a non-contiguous array wrong without a word (safetensors#825).
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    sealed = {**metadata, "sha256": _seal(whole, metadata)}
    data: bytes = safetensors.numpy.save(whole, {METADATA_KEY: canonical_json(sealed)})
    reloaded, _ = unpack_arrays(data, "the file just made")
    assert all(
        np.array_equal(reloaded[n], a, equal_nan=a.dtype.kind == "f") for n, a in whole.items()
    )
    return data


def unpack_arrays(data: bytes, where: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Back from `pack_arrays`. Raises WeightsCorruptError, WeightsFormatError."""
    try:
        arrays = safetensors.numpy.load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
    except KeyError as error:
        raise WeightsFormatError(
            f"{where}: a safetensors file, but not of charrnn (numbers of type {error}); give one "
            "that `python -m charrnn train` wrote"
        ) from None
    except (safetensors.SafetensorError, ValueError, TypeError, MemoryError) as error:
        raise WeightsCorruptError(
            f"{where}: not a whole safetensors file ({error}); restore it from a copy, or train "
            "again"
        ) from None
    try:
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        found, expected = metadata.pop("sha256"), _seal(arrays, metadata)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise WeightsFormatError(
            f"{where}: a safetensors file, but not of charrnn (no description in it); give one "
            "that `python -m charrnn train` wrote"
        ) from None
    if found != expected:
        raise WeightsCorruptError(
            f"{where}: its contents don't match their checksum (altered after it was written); "
            "restore it from a copy, or train again"
        )
    return arrays, metadata


def _seal(arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(canonical_json(dict(metadata)).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _parameters(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], where: str
) -> Parameters:
    """The parameters that have `shapes`, and no others."""
    for name, shape in shapes.items():
        if name not in arrays:
            raise WeightsFormatError(f"{where}: the array {name} is missing; train again")
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise WeightsFormatError(
                f"{where}: the array {name} must be float32 {shape}, got {array.dtype} "
                f"{array.shape}; train again"
            )
    extra = sorted(arrays.keys() - shapes.keys())
    if extra:
        raise WeightsFormatError(
            f"{where}: the array {extra[0]} belongs to no parameter; train again"
        )
    params = Parameters.from_arrays({name: arrays[name] for name in shapes})
    _check_finite(params, where)
    return params


def _check_finite(params: Mapping[str, Array], where: str) -> None:
    for name, array in params.items():
        if not np.isfinite(array).all():
            raise WeightsFormatError(
                f"{where}: the array {name} must be finite, got NaN or infinity; train again with "
                "a lower learning rate"
            )
