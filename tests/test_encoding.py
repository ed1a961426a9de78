"""The file of a large text: made once, by one process, and whole, or not at all."""

import json
import os
import resource
import signal

import numpy as np
import pytest

from charrnn import corpus as corpora
from charrnn import encoding, progress, reading, textcache
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.errors import CorpusError, TrainingInterrupted
from charrnn.reading import Watch
from charrnn.recipe import Recipe
from charrnn.retraining import train
from charrnn.store import Store
from tests.builders import fork, join
from tests.large_texts import some_text
from tests.processes import until


def encoded(path, cache=None, watch=reading.UNWATCHED, **config):
    """The corpus of a file that counts as large, and what was told."""
    told = []
    own = Watch(lambda what, done, total: told.append(what), watch.stop)
    corpus = load_corpus(
        [path], CorpusConfig.checked({"kind": "text", **config}), cache=cache, watch=own
    )
    return corpus, told


@pytest.fixture
def text(tmp_path, as_large):
    path = tmp_path / "text.txt"
    path.write_text(some_text())
    as_large()
    return path


def only_file(cache):
    (path,) = cache.glob("*.ids")
    return path


def test_a_text_is_encoded_once(text, tmp_path):
    cache = tmp_path / "cache"
    first, told = encoded(text, cache)
    assert "encoding" in told
    second, told = encoded(text, cache)
    assert "encoding" not in told
    assert np.array_equal(first.encoded[:], second.encoded[:])
    text.rename(tmp_path / "moved.txt")  # it goes by what is in it
    assert "encoding" not in encoded(tmp_path / "moved.txt", cache)[1]
    assert "encoding" in encoded(tmp_path / "moved.txt", cache, salt="x")[1]
    (tmp_path / "moved.txt").write_text(some_text(seed=9))
    assert "encoding" in encoded(tmp_path / "moved.txt", cache)[1]


SPOILED = {
    "cut short": lambda data: data[:-7],
    "half": lambda data: data[: len(data) // 2],
    "a byte altered": lambda data: data[:5_000] + bytes([data[5_000] ^ 1]) + data[5_001:],
    "the end altered": lambda data: data[:-60] + b"x" + data[-59:],
    "empty": lambda data: b"",
    "more behind it": lambda data: data + b"\n",
    "another thing": lambda data: b"charrnn\n" * 99,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_file_that_is_not_what_was_written_is_made_anew(how, text, tmp_path, caplog):
    cache = tmp_path / "cache"
    expected = encoded(text, cache)[0].encoded[:]
    good = only_file(cache).read_bytes()
    only_file(cache).write_bytes(SPOILED[how](good))
    again, told = encoded(text, cache)
    assert "encoding" in told
    assert "encoded anew" in caplog.text
    assert np.array_equal(again.encoded[:], expected)
    assert only_file(cache).read_bytes() == good


def test_a_file_of_another_version_is_made_anew(text, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    encoded(text, cache)
    monkeypatch.setattr(encoding, "FORMAT", 2)
    old = only_file(cache)
    assert "encoding" in encoded(text, cache)[1]
    monkeypatch.setattr(encoding, "key_of", lambda *_: old.stem)
    monkeypatch.setattr(corpora, "key_of", lambda *_: old.stem)
    assert "encoding" in encoded(text, cache)[1]


def test_the_two_that_were_used_last_are_kept(tmp_path, as_large):
    as_large()
    path, cache = tmp_path / "text.txt", tmp_path / "cache"
    found = []
    for seed in (0, 1, 0, 2):
        path.write_text(some_text(seed=seed))
        encoded(path, cache)
        for file in cache.glob("*.ids"):  # each use is later than the one before
            status = file.stat()
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - 10**10))
        found.append({file.name for file in cache.glob("*.ids")})
    assert [len(each) for each in found] == [1, 2, 2, 2]
    assert found[0] < found[3]
    assert not found[1] - found[0] & found[3]


def test_a_file_may_be_removed_while_it_is_read_but_not_cut_short(text, tmp_path):
    cache = tmp_path / "cache"
    corpus, _ = encoded(text, cache)
    expected, path = corpus.encoded[:], only_file(cache)
    with path.open("r+b") as file:
        file.truncate(30_000)
    with pytest.raises(CorpusError, match="was cut short while it was in use"):
        corpus.encoded[:]
    corpus, _ = encoded(text, cache)
    only_file(cache).unlink()
    assert np.array_equal(corpus.encoded[:], expected)


def test_processes_at_once_make_one_file(text, tmp_path, monkeypatch):
    cache, marks = tmp_path / "cache", tmp_path / "marks"
    marks.mkdir()

    def go():
        _, told = encoded(text, cache)
        if "encoding" in told:
            (marks / str(os.getpid())).touch()

    join([fork(go) for _ in range(4)])
    assert len(list(marks.iterdir())) == 1
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".ids"]


def test_a_kill_in_the_middle_leaves_nothing_that_stays(text, tmp_path):
    cache = tmp_path / "cache"
    ready, begun = os.pipe()

    def halt(what, done, total):
        if what == "encoding" and done > 50_000:
            os.write(begun, b"!")
            signal.pause()

    def go():
        load_corpus([text], CorpusConfig(kind="text"), cache=cache, watch=Watch(halt))

    pid = fork(go)
    os.read(ready, 1)
    until(lambda: list(cache.glob(".*.partial")))
    waiting = fork(lambda: encoded(text, cache))  # another one waits for it
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    join([waiting])
    assert not list(cache.glob(".*.partial"))
    assert "encoding" not in encoded(text, cache)[1]
    os.close(ready)
    os.close(begun)


def test_a_full_disk_is_an_error_that_leaves_nothing(text, tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def go():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(CorpusError, match=r"cache: the text can't be encoded there: File too"):
            encoded(text, cache)

    join([fork(go)])
    assert not list(cache.glob(".*")) + list(cache.glob("*.ids"))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(textcache.shutil, "disk_usage", lambda _: usage)
    for where in (cache, None):
        with pytest.raises(CorpusError, match=r"No space left .*make room, or name another folder"):
            encoded(text, where)


def test_a_folder_that_cannot_be_written_is_an_error(text, tmp_path):
    (tmp_path / "file").touch()
    told = []
    with pytest.raises(CorpusError, match=r"Not a directory.*CHARRNN_CACHE"):
        load_corpus(
            *([text], CorpusConfig(kind="text")),
            cache=tmp_path / "file" / "cache",
            watch=Watch(lambda *each: told.append(each[0])),
        )
    assert set(told) == {"hashing"}  # it is told before the text is gone through


@pytest.mark.parametrize(
    ("during", "tail", "more"),
    [
        ("encoding", "other", ""),
        ("encoding", "", "a"),
        ("encoding", "", some_text(50_000)),
        ("encoding", "ß", ""),
        ("reading", "other", ""),
    ],
    ids=["altered", "longer", "much longer", "of other symbols", "before it was scanned"],
)
def test_data_that_change_between_two_passes_are_refused(during, tail, more, text, tmp_path):
    changes = []

    def change(what, done, total):
        if what == during and not changes:
            changes.append(text.write_text(some_text(100_000 - len(tail)) + tail + more))

    cache, settings = tmp_path / "cache", CorpusConfig(kind="text")
    with pytest.raises(CorpusError, match="changed while it was read"):
        load_corpus([text], settings, cache=cache, watch=Watch(change))
    assert changes
    assert not list(cache.glob("*.ids"))


@pytest.mark.parametrize("what", ["hashing", "reading", "encoding"])
def test_a_reading_that_is_to_stop_stops(what, text, tmp_path):
    told = []
    watch = Watch(lambda *each: told.append(each[0]), lambda: told[-1:] == [what])
    with pytest.raises(TrainingInterrupted, match="the same command begins that again"):
        load_corpus([text], CorpusConfig(kind="text"), cache=tmp_path / "cache", watch=watch)
    assert not list((tmp_path / "cache").glob(".*.partial"))


def test_progress_goes_from_nothing_to_all(text, tmp_path):
    told = []
    watch = Watch(lambda *each: told.append(each))
    load_corpus([text], CorpusConfig(kind="text"), cache=tmp_path / "cache", watch=watch)
    for what in ("hashing", "reading", "encoding"):
        done = [each[1] for each in told if each[0] == what]
        assert done[-1] == text.stat().st_size
        assert {each[2] for each in told if each[0] == what} == {text.stat().st_size}
        assert len(done) > 10


def test_a_training_keeps_its_text_beside_the_models_or_where_it_is_told(
    text, tmp_path, monkeypatch
):
    store = Store(tmp_path / "weights")
    values = {"data": [str(text)], "corpus": {"kind": "text"}, "training": {"steps": 2}}
    values["network"] = {"cell": "rnn", "hidden_size": 2}
    for name in ("one", "two"):
        recipe = Recipe.checked({"name": name, **values})
        assert train(recipe, tmp_path, store).promoted
        assert only_file(tmp_path / "weights" / ".texts")
        if name == "one":
            monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "elsewhere"))
    assert only_file(tmp_path / "elsewhere")
    assert store.models() == ["one", "two"]
    tail = json.loads(json.dumps(store.load("two")[0].provenance["data"]))
    assert tail["train"] + tail["validation"] + tail["test"] == 24


def test_what_takes_its_time_is_told_of_at_each_tenth(monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    reporter = progress.Reporter()
    for what in ("reading", "encoding"):
        for done in range(0, 101, 3):
            reporter.reading(what, done * 10**6, 10**8)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 18
    assert lines[0] == "reading the data: 12% of 100 MB"
    assert lines[-1] == "encoding the data: 90% of 100 MB"
    monkeypatch.setattr(progress, "QUIET_SECONDS", 60.0)
    reporter.reading("checking", 50, 100)  # what is soon done needs no word
    assert capsys.readouterr().err == ""
