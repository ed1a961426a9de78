"""The weights folder: names, versions, promotions; what is live can be loaded at every instant."""

import errno
import json
import os
import random

import pytest

from charrnn.errors import (
    ConfigError,
    PromotionError,
    WeightsCorruptError,
    WeightsFormatError,
    WeightsMissingError,
)
from charrnn.store import SHORT_VERSION, Store
from charrnn.weights import pack_arrays, sha256_of, to_bytes, unpack_arrays
from tests import builders


@pytest.fixture
def place(tmp_path):
    """A store with three versions of `tiny`, and which they are; the first is live."""
    return builders.store_of(tmp_path / "weights", 3)


def everything(root):
    """Every file under a folder, and its bytes."""
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def corrupt(store, version, name="tiny"):
    """Spoil a version's file; what its bytes were."""
    path = store.folder(name) / f"{version}.safetensors"
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1])
    return data


# --- Names ----------------------------------------------------------------------------------------

BAD_NAMES = ["", ".", "..", "../x", "../../x", "a/b", "/etc", "A", "Tiny", "-a", "_a", ".a", "a b"]
BAD_NAMES += ["a\n", "a\0", "a" * 65, "é", "a\\b", "a:b", "~", "%2e%2e", "１"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_can_not_be_a_models_is_refused_by_every_door(name, place):
    store, versions = place
    before = everything(store.root.parent)
    doors = (
        lambda: store.folder(name),
        lambda: store.current(name),
        lambda: store.live_version(name),
        lambda: store.versions(name),
        lambda: store.resolve(name),
        lambda: store.resolve(name, versions[0]),
        lambda: store.load(name),
        lambda: store.add(name, to_bytes(builders.frozen())),
        lambda: store.promote(name, versions[0], reason="x"),
        lambda: store.note(name, "refused", versions[0], reason="x"),
        lambda: store.history(name),
    )
    for door in doors:
        with pytest.raises(ConfigError, match="must be 1 to 64 lower-case letters"):
            door()
    assert everything(store.root.parent) == before


@pytest.mark.parametrize("name", ["a", "0", "a..b", "a.b-c_d", "a" * 64, "t-rex.2"])
def test_a_name_by_the_rule_is_a_folder_right_under_the_root(name, tmp_path):
    assert Store(tmp_path).folder(name).parent == tmp_path


# --- Where ----------------------------------------------------------------------------------------


def test_the_folder_is_the_argument_then_the_environment_then_the_repositorys(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CHARRNN_WEIGHTS", str(tmp_path / "named"))
    assert Store(tmp_path / "given").root == tmp_path / "given"
    assert Store(str(tmp_path / "given")).root == tmp_path / "given"
    assert Store().root == tmp_path / "named"
    for unset in (lambda: monkeypatch.setenv("CHARRNN_WEIGHTS", ""), monkeypatch.undo):
        unset()
        monkeypatch.delenv("CHARRNN_WEIGHTS", raising=False)
        assert Store().root == builders.ROOT / "weights"


@pytest.mark.parametrize("what", ["absent", "file", "empty"])
def test_a_weights_folder_without_models_is_said_so(what, tmp_path):
    root = tmp_path / "weights"
    if what == "file":
        root.touch()
    elif what == "empty":
        root.mkdir()
    store = Store(root)
    assert store.models() == []
    assert store.versions("tiny") == []
    assert store.history("tiny") == []
    for door in (store.current, store.live_version, store.resolve, store.load):
        with pytest.raises(WeightsMissingError, match=r"no model 'tiny' in .*charrnn train") as e:
            door("tiny")
        assert str(root) in str(e.value)
    with pytest.raises(WeightsMissingError, match="no model 'tiny'"):
        store.resolve("tiny", "0" * 64)
    with pytest.raises(WeightsMissingError, match="no model 'tiny'"):
        store.promote("tiny", "0" * 64, reason="x")


def test_models_are_those_with_a_live_version_and_an_unknown_one_is_told_of_them(place):
    store, _ = place
    builders.store_of(store.root, name="another")
    store.add("not-live", to_bytes(builders.frozen()))
    (store.root / "Bad Name").mkdir()
    (store.root / "Bad Name" / "CURRENT.json").touch()
    (store.root / "stray-file").touch()
    (store.root / "folder").mkdir()
    (store.root / "folder" / "CURRENT.json").mkdir()
    assert store.models() == ["another", "tiny"]
    with pytest.raises(WeightsMissingError, match="there are: another, tiny"):
        store.load("not-live")


# --- Versions -------------------------------------------------------------------------------------


def test_a_version_is_known_by_any_six_or_more_of_its_first_digits(place):
    store, versions = place
    assert store.versions("tiny") == sorted(versions)
    assert store.resolve("tiny") == store.resolve("tiny", None) == versions[0]
    assert store.live_version("tiny") == versions[0][:SHORT_VERSION]
    for version in versions:
        for length in range(6, 65):
            assert store.resolve("tiny", version[:length]) == version
        model, full = store.load("tiny", version[:6])
        assert full == version
        assert versions[model.provenance["n"]] == version


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("", "at least 6"),
        ("{0[0]}", "at least 6"),
        ("{0[0]}{0[1]}{0[2]}{0[3]}{0[4]}", "at least 6"),
        ("000000", "doesn't exist"),
        ("{0}0", "doesn't exist"),
        ("{0} ", "doesn't exist"),
        ("../../x", "doesn't exist"),
        ("../tiny/{0}", "doesn't exist"),
        ("*" * 64, "doesn't exist"),
        ("[0-9a-f]*", "doesn't exist"),
        ("CURRENT", "doesn't exist"),
        ("\0" * 6, "doesn't exist"),
    ],
)
def test_a_version_that_is_none_is_told_why_and_which_are_kept(version, why, place):
    store, versions = place
    wanted = version.format(versions[0])
    for door in (store.resolve, store.load, lambda n, v: store.promote(n, v, reason="x")):
        with pytest.raises(WeightsMissingError, match=why) as caught:
            door("tiny", wanted)
        assert all(kept[:SHORT_VERSION] in str(caught.value) for kept in versions)


def test_capital_digits_are_not_a_version(place):
    store, versions = place
    assert versions[0].upper() != versions[0]
    with pytest.raises(WeightsMissingError, match="doesn't exist"):
        store.resolve("tiny", versions[0].upper())


def test_an_ambiguous_prefix_is_told_so(place):
    store, versions = place
    twin = versions[0][:10] + ("0" if versions[0][10] != "0" else "1") + versions[0][11:]
    (store.folder("tiny") / f"{twin}.safetensors").touch()
    with pytest.raises(WeightsMissingError, match="is ambiguous"):
        store.resolve("tiny", versions[0][:10])
    assert store.resolve("tiny", versions[0][:11]) == versions[0]


def test_files_that_are_no_versions_are_not_listed(place):
    store, versions = place
    for stray in ("notes.safetensors", "A" * 64 + ".safetensors", "0" * 63 + ".safetensors"):
        (store.folder("tiny") / stray).touch()
    (store.folder("tiny") / f".{'0' * 64}.safetensors.1.partial").touch()
    (store.folder("tiny") / ("0" * 64)).touch()
    assert store.versions("tiny") == sorted(versions)


# --- Adding ---------------------------------------------------------------------------------------


def test_adding_the_same_bytes_again_changes_nothing(place):
    store, versions = place
    path = store.folder("tiny") / f"{versions[0]}.safetensors"
    before, written = everything(store.root), path.stat()
    assert store.add("tiny", path.read_bytes()) == versions[0]
    assert everything(store.root) == before
    assert path.stat().st_ino == written.st_ino
    assert path.stat().st_mode & 0o222 == 0


def test_adding_a_damaged_version_again_mends_it(place):
    store, versions = place
    data = corrupt(store, versions[0])
    with pytest.raises(WeightsCorruptError):
        store.load("tiny")
    assert store.add("tiny", data) == versions[0]
    assert store.load("tiny")[1] == versions[0]


def test_an_added_version_is_not_live(place):
    store, versions = place
    added = store.add("tiny", to_bytes(builders.frozen(99)))
    assert store.current("tiny").version == versions[0]
    assert added in store.versions("tiny")


def test_bytes_that_are_no_network_are_never_added(place):
    store, _ = place
    good = to_bytes(builders.frozen(5))
    arrays, metadata = unpack_arrays(good, "x")
    before = everything(store.root)
    for bad, error in (
        (b"", WeightsCorruptError),
        (good[:-1], WeightsCorruptError),
        (pack_arrays(arrays, {**metadata, "format": 99}), WeightsFormatError),
    ):
        for name in ("tiny", "new"):
            with pytest.raises(error, match="the version to be added"):
                store.add(name, bad)
    assert everything(store.root) == before
    assert not store.folder("new").exists()


# --- Promoting ------------------------------------------------------------------------------------


def test_a_promotion_is_live_and_written_down(place):
    store, versions = place
    current = store.promote("tiny", versions[1][:8], reason="bettér", recipe="data/tiny.toml")
    assert current == store.current("tiny")
    assert (current.version, current.reason, current.recipe) == (
        versions[1],
        "bettér",
        "data/tiny.toml",
    )
    assert current.evaluation == {"n": 1}
    assert current.promoted_at.endswith("+00:00")
    first, second = store.history("tiny")
    assert (first["version"], first["previous"]) == (versions[0], None)
    assert (second["version"], second["previous"]) == (versions[1], versions[0])
    assert second["event"] == "promoted"
    assert second["reason"] == "bettér"
    store.promote("tiny", versions[0], reason="back")  # an older one may go live again
    assert [line["version"] for line in store.history("tiny")] == [*versions[:2], versions[0]]


def test_a_refusal_is_written_down_and_changes_nothing_else(place):
    store, versions = place
    before = store.current("tiny")
    store.note("tiny", "refused", versions[2], reason="worse")
    line = store.history("tiny")[-1]
    assert (line["event"], line["version"], line["reason"]) == ("refused", versions[2], "worse")
    assert store.current("tiny") == before


@pytest.mark.parametrize("damage", ["corrupt", "format", "absent"])
def test_a_version_that_can_not_be_loaded_is_not_promoted(damage, place):
    store, versions = place
    version = versions[1]
    if damage == "corrupt":
        corrupt(store, version)
    elif damage == "absent":
        version = "0" * 64
    else:
        arrays, metadata = unpack_arrays(to_bytes(builders.frozen()), "x")
        data = pack_arrays(arrays, {**metadata, "format": 99})
        version = sha256_of(data)
        (store.folder("tiny") / f"{version}.safetensors").write_bytes(data)
    before = everything(store.root)
    for door in (store.promote, lambda n, v, reason: store.note(n, "refused", v, reason=reason)):
        with pytest.raises((WeightsCorruptError, WeightsFormatError, WeightsMissingError)):
            door("tiny", version, reason="x")
    assert everything(store.root) == before


def test_a_full_disk_leaves_the_live_version_and_the_history(place, monkeypatch):
    store, versions = place
    before = everything(store.root)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("charrnn.files.os.fsync", full)
        with pytest.raises(PromotionError, match=r"No space left.*is as it was"):
            store.promote("tiny", versions[1], reason="x")
        with pytest.raises(OSError, match="No space left"):
            store.add("tiny", to_bytes(builders.frozen(9)))
    assert everything(store.root) == before


def test_a_promotion_that_can_not_be_written_down_says_that_it_is_live(place, monkeypatch):
    store, versions = place

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("charrnn.store.append_line", full)
        with pytest.raises(PromotionError, match=r"history\.jsonl: .*is live all the same"):
            store.promote("tiny", versions[1], reason="x")
    assert store.current("tiny").version == versions[1]
    store.promote("tiny", versions[2], reason="x")
    assert store.history("tiny")[-1]["previous"] == versions[1]  # so it isn't lost


def test_the_history_survives_a_torn_line(place):
    store, versions = place
    path = store.folder("tiny") / "history.jsonl"
    whole = path.read_bytes()
    for cut in random.Random(0).sample(range(1, len(whole)), 12):
        path.write_bytes(whole + whole[:-cut])
        store.promote("tiny", versions[1], reason="after")
        first, *_, last = store.history("tiny")
        assert (first["version"], last["reason"]) == (versions[0], "after")


def test_a_promotion_that_was_cut_off_before_the_history_is_written_down_later(place):
    store, versions = place
    path = store.folder("tiny") / "history.jsonl"
    before = path.read_bytes()
    store.promote("tiny", versions[1], reason="better", details={"seconds": 3})
    written = store.history("tiny")
    path.write_bytes(before)
    for _ in range(2):  # once is enough
        store.mend("tiny")
        assert store.history("tiny") == written
    assert written[-1]["seconds"] == 3


# --- Filling --------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path):
    """A fresh weights folder, and the one that ships with the program."""
    shipped, versions = builders.store_of(tmp_path / "shipped", 2)
    (shipped.folder("tiny") / "SHIPPED").write_text("\n".join(versions))
    return Store(tmp_path / "fresh", shipped=shipped.root), shipped, versions


def test_a_fresh_folder_is_filled_with_what_ships(fresh):
    store, shipped, versions = fresh
    assert store.fill("tiny")
    assert store.load("tiny")[1] == versions[0]
    assert store.versions("tiny") == sorted(versions)
    assert store.shipped_versions("tiny") == frozenset(versions)
    assert store.history("tiny") == shipped.history("tiny")
    assert not store.fill("tiny")


def test_a_model_that_does_not_ship_or_is_there_already_is_left_alone(fresh):
    store, shipped, versions = fresh
    assert not store.fill("another")
    assert not shipped.fill("tiny")
    store.fill("tiny")
    store.promote("tiny", versions[1], reason="x")
    assert not store.fill("tiny")
    assert store.current("tiny").version == versions[1]


def test_a_copy_that_was_cut_off_is_made_again(fresh, monkeypatch):
    store, _, versions = fresh
    with monkeypatch.context() as patch:
        patch.setattr("charrnn.store.write_atomically", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.fill("tiny")
    assert store.models() == []
    assert store.fill("tiny")
    assert store.load("tiny")[1] == versions[0]


def test_the_committed_versions_are_those_that_are_said_to_ship():
    for folder in (builders.ROOT / "weights").iterdir():
        store = Store(folder.parent)
        shipped = store.shipped_versions(folder.name)
        assert shipped, f"{folder.name}/SHIPPED must list the committed versions, one a line"
        assert shipped <= set(store.versions(folder.name))
        assert store.current(folder.name).version in shipped


# --- CURRENT.json ---------------------------------------------------------------------------------

VERSION = "a" * 64
BAD_RECORDS = [
    b"",
    b"\0" * 100,
    b"{",
    b"null",
    b"5",
    b'"' + VERSION.encode() + b'"',
    b"[]",
    b"{}",
    b"\xff\xfe{\0}\0",
    b"[" * 100_000,
    b'{"version":' + b"1" * 5000 + b"}",
    *(
        json.dumps({"version": VERSION, **change}).encode()
        for change in (
            {"version": None},
            {"version": 5},
            {"version": [VERSION]},
            {"version": ""},
            {"version": VERSION[:12]},
            {"version": VERSION.upper()},
            {"version": VERSION + "\n"},
            {"version": "../" + VERSION[3:]},
            {"evaluation": None},
            {"evaluation": 5},
            {"evaluation": "text"},
        )
    ),
]


@pytest.mark.parametrize("record", BAD_RECORDS, ids=lambda record: repr(record[:40]))
def test_a_record_that_is_none_is_a_corrupt_file_that_a_promotion_mends(record, place):
    store, versions = place
    path = store.folder("tiny") / "CURRENT.json"
    path.write_bytes(record)
    for door in (store.current, store.live_version, store.resolve, store.load):
        with pytest.raises(WeightsCorruptError, match="promote a version anew") as caught:
            door("tiny")
        assert str(path) in str(caught.value)
    assert store.models() == ["tiny"]
    assert store.load("tiny", versions[1])[1] == versions[1]
    assert store.promote("tiny", versions[1], reason="anew").version == versions[1]
    assert store.history("tiny")[-1]["previous"] is None


def test_every_truncation_of_the_record_is_a_corrupt_file(place):
    store, versions = place
    path = store.folder("tiny") / "CURRENT.json"
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsCorruptError, match="CURRENT"):
            store.current("tiny")
    path.write_bytes(whole.rstrip())
    assert store.current("tiny").version == versions[0]


def test_a_record_that_is_a_folder_is_a_corrupt_file(place):
    store, _ = place
    path = store.folder("tiny") / "CURRENT.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsCorruptError, match="CURRENT"):
        store.load("tiny")


def test_a_live_version_whose_file_is_gone_or_damaged_is_named(place):
    store, versions = place
    corrupt(store, versions[0])
    with pytest.raises(WeightsCorruptError, match=versions[0]):
        store.load("tiny")
    (store.folder("tiny") / f"{versions[0]}.safetensors").unlink()
    with pytest.raises(WeightsMissingError, match=versions[0]):
        store.load("tiny")
    assert store.current("tiny").version == versions[0]
    assert store.promote("tiny", versions[1], reason="x").version == versions[1]


# --- At any instant -------------------------------------------------------------------------------


def test_a_killed_promotion_leaves_a_live_version_that_can_be_loaded(tmp_path):
    builders.run("promoting", tmp_path, 8)


@pytest.mark.prove
def test_eighty_killed_promotions_leave_a_live_version_that_can_be_loaded(tmp_path):
    builders.run("promoting", tmp_path, 80)


def test_readers_see_whole_versions_while_others_go_live(tmp_path):
    store, versions = builders.store_of(tmp_path, 2)
    other = builders.python("-m", "tests.builders", "promoting_a_hundred_times", tmp_path)
    seen = set()
    while other.poll() is None:
        model, version = store.load("tiny")
        assert versions[model.provenance["n"]] == version
        current = store.current("tiny")
        assert versions[current.evaluation["n"]] == current.version
        assert store.models() == ["tiny"]
        seen.add(version)
    out, errors = other.communicate()
    assert other.returncode == 0, out + errors
    assert seen == set(versions)
    assert len(store.history("tiny")) == 101
