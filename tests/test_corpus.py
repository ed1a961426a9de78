"""Training data: what is mended and what is refused, who falls on which side, and what is fed."""

import hashlib
import logging
import math
import unicodedata
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from charrnn.config import CorpusConfig
from charrnn.corpus import block_size, load_corpus
from charrnn.errors import CorpusError
from charrnn.kinds import kind_of
from charrnn.reading import hash_of_files, read_files
from charrnn.splits import SPLITS, place_of, split
from charrnn.vocabulary import matched
from tests import builders
from tests.builders import made_up

seeded = settings(deadline=None, derandomize=True, database=None)

THREE = "Allo\nBrachio\nCerato\n"
CONFIG = CorpusConfig()


def sides_of(sequences, config=CONFIG):
    """Each sequence's side."""
    return {s: side for side, members in split(sequences, config).items() for s in members}


# --- What is mended, and counted ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "names", "mended"),
    [
        (b"Allo\nBrachio\nCerato", ["allo", "brachio", "cerato"], {}),
        (b"Allo\r\nBrachio\r\nCerato\r\n", ["allo", "brachio", "cerato"], {"CRLF line ends": 3}),
        (b"Allo\rBrachio\rCerato", ["allo", "brachio", "cerato"], {"CR line ends": 2}),
        (
            b"Allo\r\nBrachio\rCerato\n",
            ["allo", "brachio", "cerato"],
            {"CRLF line ends": 1, "CR line ends": 1},
        ),
        (
            b"\xef\xbb\xbfAllo\n\xef\xbb\xbfBrachio\nCerato",
            ["allo", "brachio", "cerato"],
            {"byte order marks": 2},
        ),
        (
            b"\n\nAllo\n \t\nBrachio\nCerato\n\n\n",
            ["allo", "brachio", "cerato"],
            {"blank lines": 5},
        ),
        (
            "  Allo\nTar  Bo\nT\tRex \nX\u00a0Y\nCerato\u2003\n".encode(),
            ["allo", "tar bo", "t rex", "x y", "cerato"],
            {"lines with stray spaces": 5},
        ),
        (
            b"Allo\nBrachio\nAllo\nCerato\n Allo\nBrachio",
            ["allo", "brachio", "cerato"],
            {"duplicates": 3, "lines with stray spaces": 1},
        ),
        (
            "\u00c9lan\nE\u0301lan\nBrachio\nCerato".encode(),
            ["élan", "brachio", "cerato"],
            {"lines with characters in pieces": 1, "duplicates": 1},
        ),
        (  # where lower case would join two names, capitals are kept
            b"McD\nMcd\nmcd\nMcD",
            ["McD", "Mcd", "mcd"],
            {"duplicates": 1},
        ),
        (
            "Allo\x0bx\nBrachio\u2028y\nCe\x85ra".encode(),
            ["allo x", "brachio y", "ce ra"],
            {"lines with stray spaces": 3},
        ),
        ("𝄞a\n🦖b\n恐竜".encode(), ["𝄞a", "🦖b", "恐竜"], {}),
    ],
)
def test_a_list_is_mended_and_what_was_mended_is_counted(data, names, mended, tmp_path):
    corpus = builders.corpus_of(tmp_path, data, kind="names")
    assert list(corpus.names) == names
    assert {what: n for what, n in corpus.mended.items() if n} == mended
    said = " ".join(corpus.summary())
    assert all(f"{count} {what}" in said for what, count in mended.items())
    assert ("mended" in said) == bool(mended)
    assert sorted(chain(*corpus.sequences.values())) == sorted(names)
    assert (corpus.source.sha256, corpus.source.size) == (
        hashlib.sha256(data).hexdigest(),
        len(data),
    )


def test_names_that_only_capitals_tell_apart_are_one_where_lower_case_is_asked_for(tmp_path):
    corpus = builders.corpus_of(tmp_path, b"McD\nMcd\nMCD\nAllo\nB", kind="names", case="title")
    assert corpus.names == ("mcd", "allo", "b")
    assert corpus.mended["duplicates"] == 2


def test_running_text_is_mended_but_keeps_its_lines_and_spaces(tmp_path):
    text = "A  line,\twith e\u0301.\n\n  Indented\u00a0here;\n" * 40
    spoiled = "\ufeff" + text.replace("\n", "\r\n", 7)
    corpus = builders.corpus_of(tmp_path, spoiled)
    assert corpus.kind == "text"
    assert corpus.source.text == unicodedata.normalize("NFC", text)
    assert {what: n for what, n in corpus.mended.items() if n} == {
        "byte order marks": 1,
        "CRLF line ends": 7,
        "lines with characters in pieces": 40,
    }
    # Every block is on one side, and none is lost.
    blocks = Counter(b for side in SPLITS for b in corpus.sequences[side])
    assert sum(len(b) * n for b, n in blocks.items()) == len(corpus.source.text)


def test_files_are_read_as_one_text_in_their_order(tmp_path):
    parts = [b"\xef\xbb\xbfAllo", b"Brachio\r\n", b"", b"Cerato\n\n", b"Allo\n"]
    paths = [tmp_path / str(n) for n in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    source = read_files(paths)
    assert source.text == "Allo\nBrachio\n\nCerato\n\nAllo\n"
    assert source.size == sum(map(len, parts))
    assert read_files(paths[:1]).sha256 == hashlib.sha256(parts[0]).hexdigest()
    paths[0].write_bytes(parts[0] + parts[1][:1])  # bytes that move between files are a change
    paths[1].write_bytes(parts[1][1:])
    assert read_files(paths).sha256 != source.sha256
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    corpus = load_corpus(paths, CONFIG)
    assert corpus.names == ("allo", "brachio", "cerato")
    assert corpus.mended["duplicates"] == 1


def test_what_was_read_is_told_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, "charrnn")
    builders.corpus_of(tmp_path, THREE + "\n\nAllo\n")
    said = caplog.text
    assert "names: 1 train, 1 validation, 1 test" in said
    assert "learned in lower case, written in title case" in said
    assert "mended: 2 blank lines, 1 duplicates" in said


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no text in it"),
        (b"\n \r\n\t\n", "no text in it"),
        (b"\xef\xbb\xbf\n", "no text in it"),
        (b"ok\nok\nT\xffr\n", r"must be UTF-8, got byte 0xFF in line 3"),
        (b"\xe9lan\n", r"0xE9 in line 1"),
        (b"ab\n\xe2\x82", r"0xE2 in line 2"),
        (b"\xed\xa0\x80", r"0xED in line 1"),  # half a surrogate pair
        (b"\xc0\x80", r"0xC0 in line 1"),  # an overlong zero
        ("Allo\nRex".encode("utf-16"), "is UTF-16, must be UTF-8"),
        ("Allo\nRex".encode("utf-16-be"), "zero byte in line 1"),
        ("Allo\nRex".encode("utf-32"), "must be UTF-8"),
        (b"Allo\nRe\0x\n", "zero byte in line 2"),
        (
            b"Allo\n",
            r"got 5; if its lines are names .at least 3., say so with --kind names",
        ),
        (b"Allo\nBrachio\n", r"1,000 characters, got 13; if its lines are names"),
        (b"One word, and some more.\n" * 5, r"at least 1,000 characters"),
    ],
)
def test_a_file_that_can_not_be_learned_from_is_one_clear_error(data, says, tmp_path):
    with pytest.raises(CorpusError, match=says) as caught:
        builders.corpus_of(tmp_path, data)
    assert str(caught.value).startswith(str(tmp_path / "data.txt"))


@pytest.mark.parametrize("lines", ["Allo", "Allo\nBrachio", "Allo\nallo\nALLO\nAllo\n", "A\n" * 50])
def test_fewer_than_three_different_names_are_refused(lines, tmp_path):
    with pytest.raises(CorpusError, match=r"at least 3 different names .*, got [12]"):
        builders.corpus_of(tmp_path, lines, kind="names", case="title")


@pytest.mark.parametrize("where", ["absent.txt", "folder", "absent/below.txt", "a\0b", "x" * 300])
def test_a_file_that_can_not_be_read_is_named(where, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match="can't be read") as caught:
        load_corpus([tmp_path / where], CONFIG)
    assert str(caught.value).startswith(str(tmp_path / where))


def test_three_names_are_enough_and_each_side_has_one(tmp_path):
    corpus = builders.corpus_of(tmp_path, THREE)
    assert [len(corpus.sequences[side]) for side in SPLITS] == [1, 1, 1]
    assert corpus.vocabulary.case == "title"
    assert max(map(len, corpus.names)) == 7
    assert [corpus.characters(side) for side in SPLITS] == [
        len(corpus.sequences[side][0]) + 1 for side in SPLITS
    ]


def test_a_huge_line_is_running_text_and_left_out_of_a_list(tmp_path):
    huge = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 300_000)))
    corpus = builders.corpus_of(tmp_path, huge)
    assert corpus.kind == "text"
    assert sum(len(b) for side in SPLITS for b in corpus.sequences[side]) == len(huge) + 1
    corpus = builders.corpus_of(tmp_path, THREE + huge, kind="names")
    assert len(corpus.names) == 3
    assert corpus.mended["lines left out, longer than 200 characters"] == 1


# --- Names or running text ------------------------------------------------------------------------

CODE = '''def area(shapes):
    """The sum of all areas."""
    total = 0
    for shape in shapes:
        if shape.kind == "circle":
            total += 3.14159 * shape.radius ** 2
        else:
            total += shape.width * shape.height
    return total
'''


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (THREE, "names"),
        ("Tyrannosaurus rex\nHomo sapiens\nCanis lupus familiaris\n" * 3, "names"),
        ("Marie Curie\nNiels Bohr\nEmmy Noether\nErwin Schrödinger\n" * 9, "names"),
        ("Mary Jo van Dam\nJohn Smith Jr.\nAda Lovelace\nBo\nCy\nDi\n", "names"),
        ("北京\n上海\n广州\n深圳\n", "names"),
        ("Yoshi!\nMario\nLuigi\nPeach\nToad\nWario\n", "names"),
        ("old silent pond\na frog jumps into the pond\nsplash silence again\n" * 3, "text"),
        ("Two roads diverged,\nI took one,\nAnd that\nhas made\nall the difference.\n", "text"),
        ("床前明月光，\n疑是地上霜，\n举头望明月，\n低头思故乡，\n", "text"),
        ("我们今天去公园散步，天气很好。\n花也开了。\n孩子们在草地上玩耍！\n", "text"),
        ("「元気ですか」\n「はい、元気です」\n「よかった」\n", "text"),
        (CODE, "text"),
        ("function f(x) {\n  return x;\n}\nvar a = 3;\nif (a) {\n b();\n}\n", "text"),
        ("> hello\nhi there, how are you?\n\n> who are you\ni am rex.\n", "text"),
        ("word " * 5000, "text"),
        ("x" * 5000, "text"),
        ("Allo\nBrachio\n", "text"),  # too few to be a list
    ],
)
def test_a_list_of_names_is_told_from_running_text(text, kind):
    assert kind_of(text) == kind
    assert kind_of("\n\n" + text.replace("\n", "\n\n") + "\n") == kind


@pytest.mark.parametrize(("file", "kind"), [("dinosaurs.txt", "names"), ("rex-chat.txt", "chat")])
def test_the_kinds_of_the_data_that_ships_are_seen(file, kind):
    assert kind_of(read_files([builders.ROOT / "data" / file]).text) == kind


def test_what_the_recipe_says_goes_before_what_is_seen(tmp_path):
    assert builders.corpus_of(tmp_path, THREE * 100, kind="text").kind == "text"
    assert builders.corpus_of(tmp_path, CODE, kind="names").kind == "names"


# --- Sides ----------------------------------------------------------------------------------------

FRACTIONS = st.floats(0.001, 0.5)
SALTED = st.builds(CorpusConfig, validation=FRACTIONS, test=FRACTIONS, salt=st.text(max_size=5))
BASE = made_up(300)


@settings(seeded, max_examples=25)
@given(st.sets(st.text(min_size=1, max_size=4), max_size=30), st.randoms(use_true_random=False))
def test_a_name_stays_on_its_side_as_the_list_grows_and_changes_its_order(more, rng):
    before = sides_of(BASE)
    grown = list(dict.fromkeys([*BASE, *more]))
    rng.shuffle(grown)
    after = sides_of(grown)
    assert {name: after[name] for name in BASE} == before
    fewer = [name for name in BASE if rng.random() < 0.7]
    assume(set(map(before.get, fewer)) == set(SPLITS))
    assert sides_of(fewer) == {name: before[name] for name in fewer}


@seeded
@given(st.sets(st.text(min_size=1, max_size=4), min_size=3, max_size=12), SALTED)
@example({"a", "b", "c"}, CorpusConfig(validation=0.5, test=0.5))
@example({"a", "b", "c"}, CorpusConfig(validation=0.001, test=0.001))
def test_every_name_is_on_one_side_and_no_side_is_empty(names, config):
    sides = split(sorted(names), config)
    assert list(sides) == list(SPLITS)
    assert all(sides.values())
    assert sorted(chain(*sides.values())) == sorted(names)


@seeded
@given(st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=20, unique=True), SALTED)
def test_within_a_side_the_order_of_the_list_is_kept(names, config):
    for members in split(names, config).values():
        assert list(members) == [name for name in names if name in set(members)]


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.05, 0.3), (0.5, 0.5), (0.01, 0.5)])
def test_the_fractions_are_near_those_asked_for(validation, test):
    # Binomial: beyond five standard deviations in 1 of 1.7 million draws, 12 of them here; but the
    # hash draws the same every time.
    config = CorpusConfig(validation=validation, test=test)
    names = [f"name {n}" for n in range(8000)]
    sides = split(names, config)
    for side, p in (("validation", validation), ("test", test), ("train", 1 - validation - test)):
        slack = 5 * math.sqrt(len(names) * p * (1 - p)) + 1
        assert abs(len(sides[side]) - len(names) * p) <= slack


def test_another_salt_draws_other_sides():
    assert sides_of(BASE, CorpusConfig(salt="a")) != sides_of(BASE, CorpusConfig(salt="b"))


def test_a_tiny_list_gives_its_lowest_hashes_to_validation_and_test():
    config = CorpusConfig(validation=0.001, test=0.001)
    by_hash = sorted(BASE[:9], key=lambda name: place_of(name, config.salt))
    sides = split(BASE[:9], config)
    assert sides["validation"] == (by_hash[0],)
    assert sides["test"] == (by_hash[1],)


@seeded
@given(st.text(st.sampled_from("ßẞİiIǅǰΣσςΐᾼK\u0301\u0307\u0323\u0345ꭰᎠéAaJ"), max_size=9))
def test_a_names_side_is_the_same_whatever_the_rule_for_capitals(name):
    assert place_of(matched(name, "keep"), "s") == place_of(matched(name, "title"), "s")


def test_a_list_in_capitals_is_split_like_one_in_lower_case():
    shouted = [name.upper() for name in BASE]
    assert {name.upper(): side for name, side in sides_of(BASE).items()} == sides_of(shouted)


@pytest.mark.parametrize("size", [1_000, 1_023, 5_000, 81_919, 81_920, 300_001])
def test_running_text_is_cut_into_blocks_that_cover_it_once(size, tmp_path):
    rng = np.random.default_rng(size)
    text = "".join(rng.choice(list("abcde fgh\n"), size - 2)) + "z."
    corpus = builders.corpus_of(tmp_path, text, kind="text")
    expected, step = corpus.source.text, block_size(len(corpus.source.text))
    assert step in [2**n for n in range(5, 13)]
    blocks = [block for side in SPLITS for block in corpus.sequences[side]]
    assert sorted(blocks) == sorted(
        [expected[a : a + step] for a in range(0, len(expected) - 2 * step + 1, step)]
        + [expected[(len(expected) // step - 1) * step :]]
    )
    assert all(step <= len(block) < 2 * step for block in blocks)
    assert all(corpus.sequences.values())
    assert len(blocks) >= 15
    assert corpus.carries_state
    assert corpus.names == ()


def test_blocks_stay_on_their_sides_as_a_long_text_grows(tmp_path):
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh .\n"), 200_000))
    before = builders.corpus_of(tmp_path, text, kind="text").sequences
    after = builders.corpus_of(tmp_path, text + text[::-1], kind="text").sequences
    last = len(text) // 4096 * 4096
    for side in SPLITS:
        kept = [
            block for block in before[side] if len(block) == 4096 or text[:last].endswith(block)
        ]
        assert len(kept) >= len(before[side]) - 1
        assert set(kept) <= set(after[side])


def test_text_that_repeats_itself_still_has_three_sides(tmp_path):
    corpus = builders.corpus_of(tmp_path, "a line, and a line.\n" * 500)
    assert all(corpus.sequences.values())


def test_by_order_the_end_of_the_text_is_held_out(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"word {k} and another.\n" for k in range(2_000)))
    config = CorpusConfig(kind="text", split_by="order", validation=0.1, test=0.2)
    sides = load_corpus([path], config).sequences
    assert "".join([*sides["train"], *sides["test"], *sides["validation"]]) == path.read_text()
    sizes = {side: sum(map(len, blocks)) for side, blocks in sides.items()}
    block = max(map(len, sides["validation"]))
    assert abs(sizes["validation"] - 0.1 * path.stat().st_size) <= block
    assert abs(sizes["test"] - 0.2 * path.stat().st_size) <= block


@pytest.mark.parametrize("count", [1, 3])
def test_the_hash_of_files_is_that_of_the_source(count, tmp_path):
    paths = [tmp_path / f"{k}.txt" for k in range(count)]
    for path in paths:
        path.write_text(f"{path.name} \r\n x")
    assert hash_of_files(paths) == read_files(paths).sha256
    with pytest.raises(CorpusError, match="can't be read"):
        hash_of_files([tmp_path / "gone.txt"])
