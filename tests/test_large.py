"""Large running text: read piece by piece, learned from a file; the same corpus, batches and
weights as in memory.
"""

import hashlib
import re
import subprocess
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn import encoding, reading
from charrnn.batches import TextFeed
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.errors import CorpusError
from charrnn.kinds import Look
from charrnn.memory import peak_memory
from charrnn.reading import Watch, read_files
from charrnn.recipe import Recipe
from charrnn.splits import SPLITS
from charrnn.training import Run
from charrnn.vocabulary import matched
from tests.builders import ROOT
from tests.large_texts import LETTERS, some_text

# --- Reading in pieces ----------------------------------------------------------------------------

PIECES = [
    "a",
    "Σ",
    "ΑΣ",
    "σ ",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\ufeff",
    "e\u0301",
    "\u0301",
    "漢",
    "字",
    "9",
]
PIECES += ["> ", "> hi\nyes\n", "가", "\u1100\u1161", "word ", ".", "\t", "\u2003", "ab", "é", "İ"]
texts = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def read_at_once(data):
    """The text of some bytes and what was mended, as one reads who has them all."""
    text = data.decode()
    lines = re.sub("\r\n?", "\n", text.replace("\ufeff", "")).split("\n")
    whole = [unicodedata.normalize("NFC", line) for line in lines]
    mended = (
        text.count("\ufeff"),
        text.count("\r\n"),
        text.count("\r") - text.count("\r\n"),
        sum(map(str.__ne__, lines, whole)),
    )
    return "\n".join(whole).removesuffix("\n") + "\n", mended


@example(text="a\u2003\u0301" * 9 + "Σ", piece=3)
@example(text="ΑΣ ΑΣa" * 9, piece=4)
@example(text="e\u0301" * 30 + " x", piece=5)
@given(text=texts, piece=st.integers(1, 40))
def test_a_text_in_pieces_is_the_text(tmp_path_factory, text, piece):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(text.encode())
    expected, mended = read_at_once(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE", piece)
        patch.setattr(reading, "HEAD", 10)
        files = reading.TextFiles([path])
        pieces = list(files.pieces())
        assert "".join(pieces) == expected
        for case in ("keep", "title"):
            assert "".join(matched(each, case) for each in pieces) == matched(expected, case)
        if expected.strip():
            source = files.source()
            assert tuple(source.mended.values())[:4] == mended
            assert source.sha256 == hashlib.sha256(text.encode()).hexdigest()


def kind_by_rule(text):
    """The rule, of a whole text."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    turns = sum(
        a.startswith("> ") and bool(b) and not b.startswith("> ")
        for a, b in pairwise(text.split("\n"))
    )
    if lines[0].startswith("> ") and turns >= max(len(lines) / 4, 3):
        return "chat"
    words = sum(len(line.split()) for line in lines) / len(lines)
    letters = sum(map(len, lines)) / len(lines)
    ended = sum(line[-1] in ".,;:!?…，、；：。！？」』”{}" for line in lines) / len(lines)
    return "names" if words <= 3 and letters <= 30 and ended <= 0.2 and len(lines) >= 3 else "text"


@example(text="> hi\nyes\n" * 3, cuts=[1, 3, 5])
@example(text="a b c\nd e f\n  g  h  \n", cuts=[1, 2, 3, 4, 17, 18, 19])
@example(text="x" * 29 + "\n" + "y" * 31 + "\n\nz\n", cuts=list(range(0, 60, 7)))
@given(text=texts, cuts=st.lists(st.integers(0, 120), max_size=6))
def test_the_kind_of_a_text_is_seen_in_pieces_too(text, cuts):
    text = text.replace("\r", "\n")
    if not text.strip():
        return
    look, places = Look(), [0, *sorted(cuts), len(text)]
    for a, b in pairwise(places):
        look.add(text[a:b])
    assert look.kind() == kind_by_rule(text)


def test_lines_without_a_space_are_cut_where_nothing_looks_beyond(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 1000)
    for text in ("ACGT" * 5_000, "漢字仮名" * 5_000, "é" * 3_000 + " " + "é" * 9_000):
        path = tmp_path / "line.txt"
        path.write_text(text)
        pieces = list(reading.TextFiles([path]).pieces())
        assert "".join(pieces) == text + "\n"
        assert len(pieces) > 1


def test_an_error_names_the_line_however_far_down(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 100)
    path = tmp_path / "text.txt"
    for bad, rule in ((b"\xe9", "must be UTF-8, got byte 0xE9"), (b"\0", "got a zero byte")):
        path.write_bytes(b"a line of text\n" * 500 + b"and " + bad + b" here\n" + b"more\n" * 99)
        with pytest.raises(CorpusError, match=f"{rule} in line 501"):
            read_files([path])


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 1000)
    path = tmp_path / "text.txt"
    path.write_text(some_text(10_000))

    def grow(what, done, total):
        if done < 2_000:
            with path.open("a") as file:
                file.write("more")

    with pytest.raises(CorpusError, match=r"changed while it was read .*same command again"):
        read_files([path], watch=Watch(grow))


# --- The same as in memory ------------------------------------------------------------------------

MESSY = (
    some_text(60_000, LETTERS + "ΣσAB")
    + "\r\n\ufeffe\u0301 Ω\r"
    + some_text(60_000, LETTERS + "é", 1)
)
WIDE = some_text(90_000, "".join(map(chr, range(0x4E00, 0x4E00 + 400))) + "。\n")


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (MESSY, {}),
        (MESSY, {"case": "title", "salt": "other", "validation": 0.3}),
        (MESSY, {"split_by": "order", "test": 0.2}),
        (MESSY, {"fewest": 1, "validation": 0.0001, "test": 0.0001}),
        (MESSY, {"validation": 0.5, "test": 0.5}),
        (WIDE, {"fewest": 1}),
        (some_text(81_920), {}),
        (some_text(81_921), {"split_by": "order"}),
    ],
    ids=["messy", "salted", "by order", "few held out", "few learned", "wide", "even", "odd"],
)
def test_a_corpus_is_the_same_from_a_file_as_in_memory(text, config, tmp_path, as_large):
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    settings = CorpusConfig.checked({"kind": "text", **config})
    memory = load_corpus([path], settings)
    as_large()
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        file = load_corpus([path], settings, cache=cache)
        assert file.encoded
        assert file.vocabulary == memory.vocabulary
        for side in ("validation", "test"):
            assert tuple(file.sequences[side]) == tuple(memory.sequences[side])
        assert [file.size(s) for s in SPLITS] == [memory.size(s) for s in SPLITS]
        assert [file.characters(s) for s in SPLITS] == [memory.characters(s) for s in SPLITS]
        assert file.summary() == memory.summary()
        assert (file.source.sha256, file.source.size) == (memory.source.sha256, memory.source.size)
        ids = memory.learned()
        assert file.encoded.dtype == ids.dtype == (np.uint16 if text is WIDE else np.uint8)
        assert np.array_equal(file.encoded[:], ids)
        rng = np.random.default_rng(0)
        for begin, size in zip(
            rng.integers(0, len(ids), 40), rng.integers(0, 9_000, 40), strict=True
        ):
            assert np.array_equal(file.encoded[begin : begin + size], ids[begin : begin + size])
        few = {"batch_size": 5, "seq_length": 700, "random_seed": 4}
        feeds = [TextFeed(each, **few) for each in (memory, file)]
        for step in range(2 * feeds[0].steps_in_epoch + 1):
            one, other = (feed.batch(step) for feed in feeds)
            assert np.array_equal(one.ids, other.ids)
            assert np.array_equal(one.targets, other.targets)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_seed_gives_the_same_weights_from_a_file_as_in_memory(
    processes, tmp_path, as_large
):
    path = tmp_path / "text.txt"
    path.write_bytes(MESSY.encode())
    recipe = Recipe.checked(
        {
            "name": "text",
            "data": ["text.txt"],
            "network": {"cell": "gru", "hidden_size": 8, "dropout": 0.1},
            "training": {"steps": 12, "evaluate_every": 6, "processes": processes},
        }
    )
    settings = CorpusConfig(kind="text")
    memory = Run(recipe, load_corpus([path], settings)).train()
    as_large()
    corpus = load_corpus([path], settings, cache=tmp_path / "cache")
    assert corpus.encoded
    assert Run(recipe, corpus).train().data == memory.data


def test_of_what_is_held_out_the_blocks_of_lowest_place_are_looked_at(
    tmp_path, as_large, monkeypatch
):
    path = tmp_path / "text.txt"
    path.write_text(some_text(400_000))
    settings = CorpusConfig(kind="text", validation=0.3)
    memory = load_corpus([path], settings)
    as_large()
    monkeypatch.setattr(encoding, "MOST_HELD_OUT", 5 * 4096)
    corpus = load_corpus([path], settings)
    for side in ("validation", "test"):
        looked = list(corpus.sequences[side])
        all_of_them = list(memory.sequences[side])
        assert [block for block in all_of_them if block in looked] == looked
        lowest = sorted(all_of_them, key=lambda block: encoding.place_of(block, settings.salt))
        assert set(lowest[:5]) == set(looked)
        assert corpus.size(side) == len(all_of_them)
    assert np.array_equal(corpus.encoded[:], memory.learned())
    assert "are looked at: 5 validation, 5 test" in "\n".join(corpus.summary())


def test_a_list_and_conversations_are_seen_for_what_they_are(tmp_path, as_large):
    names, talk = tmp_path / "names.txt", tmp_path / "talk.txt"
    names.write_text("\n".join(f"Name {k}" for k in range(9_000)) + "\n \nName 3\n  Name  4\n")
    talk.write_text("".join(f"> how is {k}\nfine, {k}.\n\n" for k in range(300)))
    whole = [load_corpus([path], CorpusConfig()) for path in (names, talk)]
    as_large()
    pieces = [load_corpus([path], CorpusConfig()) for path in (names, talk)]
    for one, other in zip(whole, pieces, strict=True):
        assert other.encoded is None
        assert (one.kind, one.names, one.sequences) == (other.kind, other.names, other.sequences)
        assert (one.mended, one.vocabulary) == (other.mended, other.vocabulary)
    assert [corpus.kind for corpus in pieces] == ["names", "chat"]


def test_a_table_is_read_whole(tmp_path, as_large):
    path = tmp_path / "table.csv"
    path.write_text("id,text\n" + "".join(f"{k},one line of text number {k}\n" for k in range(200)))
    before = load_corpus([path], CorpusConfig(column="text", kind="text"))
    as_large()
    after = load_corpus([path], CorpusConfig(column="text", kind="text"))
    assert after.encoded is None
    assert after.sequences == before.sequences


MEMORY = """
import sys
from pathlib import Path
from charrnn import corpus, encoding
from charrnn.batches import TextFeed
from charrnn.config import CorpusConfig
from charrnn.memory import peak_memory
encoding.MOST_HELD_OUT = 2**18
found = corpus.load_corpus([Path(sys.argv[1])], CorpusConfig(kind="text"), cache=Path(sys.argv[2]))
feed = TextFeed(found, 32, 64, 0)
for step in range(0, feed.steps_in_epoch, 7):
    feed.batch(step)
print(peak_memory())
"""


@pytest.mark.skipif(peak_memory() is None, reason="this system doesn't tell what a process holds")
def test_memory_does_not_grow_with_the_text(tmp_path):
    peaks = []
    for megabytes in (5, 15):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("w") as file:
            for k in range(megabytes):
                file.write(some_text(1_000_000, seed=k))
        command = [sys.executable, "-c", MEMORY, path, tmp_path / "cache"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 6_000_000
