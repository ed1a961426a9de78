"""The weights file: exact, deterministic, frozen; each way it can be wrong is one clear error."""

import json
import pickletools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import charrnn
from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.errors import (
    WeightsCorruptError,
    WeightsError,
    WeightsFormatError,
    WeightsMissingError,
)
from charrnn.model import CharRNN
from charrnn.parameters import Parameters
from charrnn.vocabulary import Vocabulary
from charrnn.weights import (
    FORMAT,
    FORMAT_OF_WORDS,
    METADATA_KEY,
    NAMES,
    FrozenModel,
    from_bytes,
    pack_arrays,
    read_file,
    sha256_of,
    to_bytes,
    unpack_arrays,
)
from tests import builders

FILE = "some/file.safetensors"
NEXT_STEPS = ("train again", "charrnn train` wrote", "restore it", "charrnn models`")


def refused(data, error, match="."):
    """The message, which names the file and a next step."""
    with pytest.raises(error, match=match) as caught:
        from_bytes(data, FILE)
    message = str(caught.value)
    assert message.startswith(FILE)
    assert any(step in message for step in NEXT_STEPS), message
    assert type(caught.value) is error
    return message


@pytest.fixture(scope="module")
def whole():
    return to_bytes(builders.frozen())


def resealed(data, change_arrays=None, **metadata):
    """A file with a right checksum over wrong contents."""
    arrays, described = unpack_arrays(data, FILE)
    if change_arrays:
        change_arrays(arrays)
    for key, value in metadata.items():
        if value is KeyError:
            del described[key]
        else:
            described[key] = value
    return pack_arrays(arrays, described)


def with_header(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


# --- The round trip -------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["names", "text"])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(cell, kind):
    ends = kind == "names"
    texts = ("\ud800 lone", "é𝄞", "ab") if ends else ("any\ntext é𝄞",)
    vocabulary = Vocabulary.of(texts, ends=ends, case="sentence")
    config = ModelConfig(cell=cell, hidden_size=3, num_layers=2, vocab_size=len(vocabulary))
    params = CharRNN.initialized(config, np.random.default_rng(1)).params
    params.flat[:4] = [-0.0, 1e-45, np.finfo(np.float32).max, -np.finfo(np.float32).tiny]
    provenance = {"recipe": {"data": ["é"]}, "steps": None, "rate": 0.1, "n": 2**53 - 1}
    model = FrozenModel(
        kind, config, params, vocabulary, texts if ends else (), provenance, {"loss": 1 / 3}
    )
    loaded = from_bytes(to_bytes(model))
    assert loaded.params.flat.dtype == np.float32
    assert loaded.params.flat.tobytes() == params.flat.tobytes()
    assert loaded.params.shapes == params.shapes
    assert replace(loaded, params=params) == model
    assert to_bytes(loaded) == to_bytes(model)


def test_float64_weights_are_saved_as_the_nearest_float32():
    model = builders.frozen(dtype=np.float64)
    loaded = from_bytes(to_bytes(model))
    assert np.array_equal(loaded.params.flat, model.params.flat.astype(np.float32))


def test_one_content_gives_one_file_whatever_the_order_it_came_in():
    model = builders.frozen()
    config = ModelConfig.checked(dict(reversed(model.config.values().items())))
    arrays = dict(reversed(list(model.params.items())))
    shuffled = Parameters.from_arrays(arrays)
    other = replace(model, config=config, params=shuffled)
    for first, second in (
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ({}, {}),
    ):
        one = replace(model, provenance=first, evaluation=second)
        two = replace(other, provenance=second, evaluation=first)
        assert to_bytes(one) == to_bytes(two)


def test_one_content_gives_one_file_in_every_process():
    names = {builders.run("naming", PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(names) == 1
    assert sha256_of(to_bytes(builders.frozen(7))) in names.pop()


def test_loaded_arrays_are_read_only(whole):
    params = from_bytes(whole).params
    for array in (params.flat, params.flat[2:], *params.values(), *params.layer("").values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="read-only"):
            np.add(array, 1, out=array)
    for array in params.values():
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    with pytest.raises(TypeError):
        params["out.c"] = np.zeros(3)


def test_arrays_that_are_not_contiguous_are_saved_right():
    base = np.arange(48, dtype=np.float32).reshape(4, 12)
    arrays = {
        "transposed": base.T,
        "strided": base[::2, ::3],
        "reversed": base[::-1],
        "fortran": np.asfortranarray(base),
        "broadcast": np.broadcast_to(base[0], (3, 12)),
        "empty": base[:0],
        "unaligned": np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float32),
    }
    loaded, metadata = unpack_arrays(pack_arrays(arrays, {"n": 1}), FILE)
    assert metadata == {"n": 1}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        assert np.array_equal(loaded[name], array), name


def test_a_model_over_a_transposed_array_is_saved_right():
    model = builders.frozen()
    turned = {name: np.asfortranarray(array) for name, array in model.params.items()}
    loaded = from_bytes(to_bytes(replace(model, params=turned)))
    assert np.array_equal(loaded.params.flat, model.params.flat)


def test_a_packed_nan_comes_back():  # a checkpoint's moments are as they are
    loaded, _ = unpack_arrays(pack_arrays({"a": np.array([np.nan, np.inf])}, {}), FILE)
    assert np.array_equal(loaded["a"], [np.nan, np.inf], equal_nan=True)


def test_nothing_in_the_file_is_a_pickle_and_the_header_is_json(whole):
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    assert list(header.pop("__metadata__")) == [METADATA_KEY]
    assert {entry["dtype"] for entry in header.values()} == {"F32", "U8"}
    with pytest.raises(ValueError, match=r"opcode|pickle|exhausted"):
        list(pickletools.genops(whole))


# --- Bytes that are not those that were written ---------------------------------------------------


def test_every_truncation_is_a_corrupt_file(whole):
    for length in range(len(whole)):
        refused(whole[:length], WeightsCorruptError)


def test_every_flipped_bit_is_an_error_of_ours(whole):
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            with pytest.raises((WeightsCorruptError, WeightsFormatError), match=FILE):
                from_bytes(bytes(flipped), FILE)


def test_every_byte_replaced_is_an_error_of_ours(whole):
    rng = random.Random(0)
    for place in range(len(whole)):
        value = rng.choice([v for v in range(256) if v != whole[place]])
        changed = whole[:place] + bytes([value]) + whole[place + 1 :]
        # White space for the header's own is the one change that changes nothing.
        if whole[place : place + 1] == b" " and value in b"\t\n\r":
            continue
        with pytest.raises((WeightsCorruptError, WeightsFormatError), match=FILE):
            from_bytes(changed, FILE)


def test_trailing_and_missing_and_swapped_bytes_are_a_corrupt_file(whole):
    arrays = 8 + int.from_bytes(whole[:8], "little")
    middle = arrays + 4
    assert whole[middle : middle + 4] != whole[middle + 4 : middle + 8]
    swapped = whole[middle + 4 : middle + 8] + whole[middle : middle + 4]
    for data in (
        whole + b"\0",
        whole + whole,
        whole[1:],
        whole[:arrays] + whole[arrays + 4 :],
        whole[:middle] + swapped + whole[middle + 8 :],
        whole[:arrays] + bytes(len(whole) - arrays),
    ):
        refused(data, WeightsCorruptError)


def test_garbage_is_a_corrupt_file(whole):
    rng = np.random.default_rng(0)
    for size in (1, 7, 8, 9, 100, 5000):
        refused(rng.bytes(size), WeightsCorruptError)
        refused(
            (size - 8).to_bytes(8, "little", signed=True) + rng.bytes(size), WeightsCorruptError
        )
    for data in (b"", b"\0" * 1000, b"PK\x03\x04", b"\x80\x04\x95", b"version https://git-lfs"):
        refused(data, WeightsCorruptError)


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**31, 2**32 + 9, 2**63, 2**64 - 1])
def test_a_header_length_that_can_not_be_is_a_corrupt_file(length, whole):
    refused(length.to_bytes(8, "little") + whole[8:], WeightsCorruptError)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"null", b"{", b"{" * 500, b"[" * 100_000, b'{"a":5}', b'{"__metadata__":5}'],
    ids=lambda header: header[:16].decode(),
)
def test_a_header_that_describes_no_arrays_is_a_corrupt_file(header):
    refused(with_header(header), WeightsCorruptError)


@pytest.mark.parametrize("offsets", [[0, 8], [0, 2], [4, 8], [-4, 0], [0, 2**62]])
def test_offsets_outside_the_file_are_a_corrupt_file(offsets):
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}
    refused(with_header(header, b"\0" * 4), WeightsCorruptError)


# --- Files of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F8_E4M3", "I64", "BOOL"])
def test_a_safetensors_file_of_another_program_is_told_apart(dtype):
    size = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I64": 8, "BOOL": 1}[dtype]
    header = {
        "rnn.weight_ih_l0": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]},
        "__metadata__": {"format": "pt"},
    }
    refused(with_header(header, bytes(2 * size)), WeightsFormatError, "not of charrnn")
    del header["__metadata__"]
    refused(with_header(header, bytes(2 * size)), WeightsFormatError, "not of charrnn")


@pytest.mark.parametrize(
    "description",
    [
        *("", "{", "[]", "[1]", "5", "null", '"sha256"', '{"format":1}', '{"sha256":"x","a":NaN}'),
        '{"sha256":"x","a":1e999}',
        '{"sha256":' + "1" * 5000 + "}",
        "[" * 100_000,
        '{"sha256":"x","a":' + "[" * 990 + "]" * 990 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_a_description_that_is_no_sealed_object_is_told_apart(description):
    data = safetensors.numpy.save({"a": np.zeros(1, np.float32)}, {METADATA_KEY: description})
    with pytest.raises((WeightsFormatError, WeightsCorruptError), match=FILE):
        from_bytes(data, FILE)


@pytest.mark.parametrize("seal", [None, 5, "", "0" * 64, ["x"]])
def test_a_wrong_seal_is_a_corrupt_file(seal, whole):
    arrays, metadata = unpack_arrays(whole, FILE)
    text = json.dumps({**metadata, "sha256": seal})
    data = safetensors.numpy.save(arrays, {METADATA_KEY: text})
    refused(data, WeightsCorruptError, "checksum")


# --- Whole files that describe no network of ours -------------------------------------------------


@pytest.mark.parametrize("version", [0, FORMAT_OF_WORDS + 1, "1", None, [1], KeyError])
def test_another_format_version_is_named(version, whole):
    message = refused(resealed(whole, format=version), WeightsFormatError, "format")
    assert f"this version reads formats {FORMAT} and {FORMAT_OF_WORDS}" in message
    assert "install the version of charrnn that wrote it" in message


def test_names_without_an_end_symbol_and_text_with_one_are_refused(whole):
    kind = unpack_arrays(whole, FILE)[1]["kind"]
    other = {"names": "text", "text": "names"}[kind]
    refused(resealed(whole, kind=other), WeightsFormatError, "names must have an end symbol")


@pytest.mark.parametrize("key", ["config", "kind", "vocabulary", "provenance", "evaluation"])
@pytest.mark.parametrize("value", [KeyError, None, 5, "prose", [], [["cell", "rnn"]], {"odd": 1}])
def test_each_part_of_the_description_that_is_absent_or_odd_is_an_error(key, value, whole):
    data = resealed(whole, **{key: value})
    if key in ("provenance", "evaluation") and value == {"odd": 1}:  # any object may stand there
        from_bytes(data, FILE)
        return
    message = refused(data, WeightsFormatError)
    assert (f"doesn't say its '{key}'" in message) == (value is KeyError)


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "transformer"},
        {"cell": 5},
        {"hidden_size": "2"},
        {"hidden_size": 0},
        {"hidden_size": 4097},
        {"hidden_size": True},
        {"num_layers": None},
        {"vocab_size": 1},
        {"dropout": "no"},
        {"heads": 8},
    ],
    ids=str,
)
def test_a_config_that_breaks_a_rule_is_an_error_that_names_the_field(change, whole):
    config = {**builders.frozen().config.values(), **change}
    refused(resealed(whole, config=config), WeightsFormatError, next(iter(change)))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 3},
        {"hidden_size": 4096, "num_layers": 16},
        {"num_layers": 2},
        {"cell": "lstm"},
        {"cell": "rnn"},
    ],
    ids=str,
)
def test_a_config_of_another_network_is_an_error_that_names_the_array(change, whole):
    config = {**builders.frozen().config.values(), **change}
    refused(resealed(whole, config=config), WeightsFormatError, r"array \S+")


def test_each_missing_array_is_named(whole):
    for name in builders.frozen().params:
        data = resealed(whole, lambda arrays, name=name: arrays.pop(name))
        refused(data, WeightsFormatError, f"{name} is missing")


def test_each_mis_shaped_or_mistyped_array_is_named(whole):
    changes = (
        lambda a: a.T if a.ndim == 2 and a.shape[0] != a.shape[1] else a[:-1],
        lambda a: a.reshape(1, *a.shape),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
        lambda a: a.astype(np.int32),
        lambda a: a[:0],
    )
    for name in builders.frozen().params:
        for change in changes:

            def apply(arrays, name=name, change=change):
                arrays[name] = change(arrays[name])

            refused(resealed(whole, apply), WeightsFormatError, f"{name} must be float32")


def test_an_extra_array_is_named(whole):
    for extra in ("layers.1.U", "surplus", ""):
        data = resealed(whole, lambda a, extra=extra: a.update({extra: np.zeros(1, np.float32)}))
        refused(data, WeightsFormatError, f"the array {extra} belongs to no parameter")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_named(value, whole):
    for name in builders.frozen().params:

        def spoil(arrays, name=name):
            arrays[name] = arrays[name].copy()
            arrays[name].flat[-1] = value

        refused(resealed(whole, spoil), WeightsFormatError, f"{name} must be finite")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_in_float32_are_not_saved(value):
    model = builders.frozen(dtype=np.float64)
    model.params["out.c"][1] = value
    with pytest.raises(WeightsFormatError, match=r"out\.c must be finite"):
        to_bytes(model)


SYMBOLS = "".join(builders.frozen().vocabulary.symbols)


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": SYMBOLS[:-1]},
        {"symbols": SYMBOLS + "𝄞"},
        {"symbols": ""},
        {"symbols": SYMBOLS[::-1]},
        {"symbols": SYMBOLS[:-1] + SYMBOLS[-2]},
        {"symbols": list(SYMBOLS)},
        {"symbols": dict.fromkeys(SYMBOLS, 1)},
        {"symbols": None},
        {"symbols": 5},
        {"start": len(SYMBOLS)},
        {"start": -1},
        {"start": 0.0},
        {"start": False},
        {"start": None},
        {"end": 1},  # not the newline
        {"end": -len(SYMBOLS)},  # the newline, from behind
        {"end": len(SYMBOLS)},
        {"end": 0.0},
        {"end": False},
        {"end": "\n"},
        {"case": "upper"},
        {"case": None},
        {"case": ["keep"]},
    ],
    ids=str,
)
def test_a_vocabulary_that_breaks_a_rule_is_an_error(change, whole):
    vocabulary = {**builders.frozen().vocabulary.to_json(), **change}
    refused(resealed(whole, vocabulary=vocabulary), WeightsFormatError, "vocabulary")


def test_a_vocabulary_of_the_wrong_size_is_an_error_that_gives_both(whole):
    larger = Vocabulary.of((*builders.NAMES, "z"), ends=True, case="title")
    message = refused(resealed(whole, vocabulary=larger.to_json()), WeightsFormatError)
    assert f"{len(larger)} symbols for a network of {len(larger) - 1}" in message


@pytest.mark.parametrize(
    "names", [np.frombuffer(b"\xff\xfe", np.uint8), np.ones(4, np.float32), np.ones(4, np.int8)]
)
def test_names_that_are_not_utf8_bytes_are_an_error(names, whole):
    refused(resealed(whole, lambda arrays: arrays.update({NAMES: names})), WeightsFormatError)


# --- Files ----------------------------------------------------------------------------------------


def test_a_file_is_checked_against_the_hash_it_is_named_by(tmp_path, whole):
    named = tmp_path / f"{sha256_of(whole)}.safetensors"
    named.write_bytes(whole)
    assert read_file(named) == whole
    free = tmp_path / "any-name.safetensors"
    free.write_bytes(whole[:-1])
    assert read_file(free) == whole[:-1]
    for wrong in (whole[:-1], whole + b"\0", b"", to_bytes(builders.frozen(1))):
        named.write_bytes(wrong)
        with pytest.raises(WeightsCorruptError, match="restore it from a copy") as caught:
            read_file(named)
        assert str(named) in str(caught.value)


@pytest.mark.parametrize(
    "where", ["absent", "absent/below", "folder", "file/below", "a\0b", "a" * 300]
)
def test_a_file_that_can_not_be_read_is_missing(where, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(WeightsMissingError, match="charrnn models") as caught:
        read_file(tmp_path / where)
    assert str(tmp_path / where) in str(caught.value)


def test_a_file_that_may_not_be_read_is_missing(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WeightsMissingError, match=r"x\.safetensors: can't be read: Permission"):
        read_file(tmp_path / "x.safetensors")


def test_the_front_door_gives_the_same_errors(tmp_path, whole):
    path = tmp_path / "mine.safetensors"
    for data, error in ((None, WeightsMissingError), (whole[:-1], WeightsCorruptError)):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(error, match=r"mine\.safetensors") as caught:
            charrnn.load(path)
        assert isinstance(caught.value, WeightsError)
    path.write_bytes(whole)
    assert charrnn.load(path).version == sha256_of(whole)[:12]
