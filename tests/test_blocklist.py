"""Words not fit to print: none passes, and no honest name of the shipped list is refused."""

import codecs
import re

import pytest

from charrnn.blocklist import SHIPPED, Blocklist
from charrnn.compiled import CompiledModel
from charrnn.config import FIRST_SHARED_SEED, SEEDS_OF_FOURS
from charrnn.decoding import DecodeBatch
from charrnn.errors import ConfigError
from charrnn.texts import NOTED
from charrnn.threads import blas_threads
from charrnn.wording import Wording
from tests.exact import abra
from tests.models import running
from tests.test_repository import ROOT
from tests.test_words import random_words

OWN = ["bab*", "*rr*", "aa", "!abba"]


def test_no_name_that_ships_is_refused():
    blocklist = Blocklist.shipped()
    names = (ROOT / "data" / "dinosaurs.txt").read_text().split()
    assert [name for name in names if blocklist.refuses(name)] == []
    assert len(names) > 1500


def test_every_word_of_the_list_is_refused_alone_and_as_a_part():
    blocklist = Blocklist.shipped()
    assert len(blocklist.whole) > 250
    for word in blocklist.whole:
        assert blocklist.refuses(word), word
        assert blocklist.refuses(f"Rex {word.title()}")
        assert blocklist.blocks(word.upper())
        assert blocklist.finds_word(f"so, {word}!")


def test_the_shipped_words_are_not_in_plain_sight():
    words = codecs.decode(SHIPPED.read_text(), "rot13")
    assert "shit" in words
    assert "shit" not in SHIPPED.read_text()


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("babra", True),
        ("abab", False),
        ("arra", True),
        ("ÁRRA", True),
        ("4rr4", True),
        ("aa", True),
        ("aas", True),
        ("aab", False),
        ("rex-aa", True),
        ("rex-babo", True),
    ],
)
def test_a_star_says_where_a_word_counts(name, refused):
    assert Blocklist(OWN).refuses(name) is refused


def test_a_file_of_ones_own_is_read_after_the_shipped_list(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# mine\n\n*Würg*\n!anus\n", encoding="utf-8")
    blocklist = Blocklist.read(path)
    assert blocklist.refuses("Awurgo")
    assert not blocklist.refuses("anus")
    assert Blocklist.shipped().refuses("anus")


@pytest.mark.parametrize("line", ["two words", "*half", "**", "!", "a" * 51])
def test_a_line_that_is_no_word_is_named(tmp_path, line):
    path = tmp_path / "own.txt"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: line must be a word of at most")):
        Blocklist.read(path)


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        Blocklist.read(tmp_path / "nowhere.txt")
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="blocklist must be a file of words"):
        Blocklist.read(tmp_path / "latin")


def test_no_name_on_the_list_comes_unless_it_is_asked_for():
    made = abra()
    made.blocklist = Blocklist(["*bb*"])
    clean = made.generate(count=30, random_seed=1)
    assert not any("bb" in sample.text.lower() for sample in clean)
    asked = made.generate(count=30, random_seed=1, clean=False)
    assert any("bb" in sample.text.lower() for sample in asked)


WORD = re.compile(r"\b(?:ab|ba|abs|bas)\b")


def prose():
    made = running("ab ", seed=3)
    made.blocklist = Blocklist(["ab", "ba"])
    return made


def test_no_blocked_word_is_in_running_text_nor_ever_in_a_stream():
    made = prose()
    assert any(WORD.search(one.text) for one in made.generate(count=3, max_length=99, clean=False))
    for seed in range(3):
        samples = made.generate(count=3, max_length=99, clean=True, random_seed=seed)
        assert all(len(sample.text) == 99 for sample in samples)
        assert not any(WORD.search(sample.text) for sample in samples)
        text = ""
        for piece in made.stream(max_length=99, clean=True, random_seed=seed):
            text += piece.text
            assert not WORD.search(text)
        assert text == samples[0].text


def test_running_text_does_not_depend_on_how_it_is_cut_into_steps():
    made, asked = prose(), {"max_length": 120, "clean": True, "random_seed": 4}
    alone = made.generate(**asked)[0]
    among = made.generate_many(
        [("", made.request(**asked).config), *[("a", made.request(count=3, **asked).config)] * 3]
    )[0][0]
    assert among.text == alone.text
    assert among.logprob == pytest.approx(alone.logprob, abs=1e-3)
    assert "".join(piece.text for piece in made.stream(**asked)) == alone.text


@pytest.mark.parametrize("stop", [["c"], ["ca"], ["c b", "bc"], ["b"]])
def test_a_stop_leaves_no_blocked_word(stop):
    """Cut off where a stop string begins, a longer word may be one of the list."""
    made, texts = running("abc ", seed=3), []
    made.blocklist = Blocklist(["ab", "ba", "a"])
    for seed in range(150):
        asked = {"max_length": 60, "random_seed": seed, "stop": stop}
        free = made.generate(clean=False, **asked)[0].text
        texts.append(free)
        sample = made.generate(clean=True, **asked)[0]
        assert not made.blocklist.finds_word(sample.text)
        shown = ""
        for piece in made.stream(clean=True, **asked):
            shown += piece.text
            assert not made.blocklist.finds_word(shown)
        assert shown == sample.text
        assert piece.sample == sample
    assert any(made.blocklist.blocks(text.split(" ")[-1]) for text in texts), "it would have"


def test_who_goes_back_reads_no_prompt_again_and_little_of_the_text(monkeypatch):
    made, read, again = prose(), [], []
    read_before, admit_before = CompiledModel.read, DecodeBatch.admit

    def reading(self, ids, state=None):
        read.append(len(ids))
        return read_before(self, ids, state)

    def admit(self, position, arrivals, **how):
        again.extend(len(each.again) for each in arrivals)
        return admit_before(self, position, arrivals, **how)

    monkeypatch.setattr(CompiledModel, "read", reading)
    monkeypatch.setattr(DecodeBatch, "admit", admit)
    writer, seed = made.writer(), "b a " * 100
    writer.join(made.request(seed, count=20, max_length=2000, clean=True, random_seed=1))
    with blas_threads(1):
        while writer.busy:
            writer.turn(32)
    assert sum(read) <= len(seed) + 32, "the prompt, once"
    assert sum(each > 0 for each in again) > 500, "they did go back"
    assert max(again) < NOTED + 2 * 32


@pytest.mark.parametrize("unit", ["character", "word"])
@pytest.mark.parametrize("noted", [1, 7, 10**9])
def test_which_places_are_noted_changes_no_bit(monkeypatch, unit, noted):
    """What is drawn again leads to where the text stood, alone and in products of several rows."""
    made = prose()
    if unit == "word":
        made = random_words(hidden=32)
        made.blocklist = Blocklist(["cat", "saw", "my", "it"])
    asked = {"count": 8, "min_length": 200, "max_length": 200, "clean": True}

    def texts(**more):
        seeds = (1, FIRST_SHARED_SEED, SEEDS_OF_FOURS[1])
        requests = [made.request(random_seed=seed, **{**asked, **more}) for seed in seeds]
        return [(one.text, one.logprob) for each in made._generate(requests) for one in each]

    expected = texts()
    assert all(one != free for one, free in zip(expected, texts(clean=False), strict=True))
    monkeypatch.setattr("charrnn.texts.NOTED", noted)
    assert texts() == expected
    pieces = [piece for piece in made.stream(random_seed=1, **asked) if piece.sample]
    ended = sorted((piece.index, piece.sample) for piece in pieces)
    assert [(one.text, one.logprob) for _, one in ended] == expected[:8]


@pytest.mark.parametrize("more", ["@", "$", "1", "™", "№", "½", "é", "\u0301", "@\u0301é™"])
def test_nor_on_which_characters_it_has(more):
    """What stands for a letter, or hides one, is the same in a long step and in short ones."""
    made = running("ab " + more, seed=3)
    made.blocklist = Blocklist(["ab", "ba", "aa", "bs"])
    for seed in range(20):
        asked = {"max_length": 150, "clean": True, "random_seed": seed}
        alone = made.generate(**asked)[0]
        pieces = list(made.stream(**asked))
        assert pieces[-1].sample == alone
        assert "".join(piece.text for piece in pieces) == alone.text
        assert not made.blocklist.finds_word(alone.text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so a$$ it is", True),
        ("so á$$!", True),
        ("a\u0301ss", True),
        ("ass™", True),
        ("ass@ it", False),  # a longer word
        ("ä" + "\u0308" * 200 + "ss", False),  # of which not all is looked at
        ("bass", False),
    ],
)
def test_a_word_of_running_text_is_told_by_letters_and_what_stands_for_them(text, found):
    blocklist = Blocklist(["ass"])
    assert blocklist.finds_word(text) is found
    wording = Wording(blocklist, "")
    assert any(wording.add(0, character, 0, 0.0) for character in text + ".") is found


def test_text_that_would_come_to_a_blocked_word_for_ever_ends_there():
    made = running("ab ", seed=3)
    greedy = made.generate(temperature=0, max_length=30, clean=False)[0].text
    word = greedy.split()[0]
    made.blocklist = Blocklist([word])
    cut = made.generate(temperature=0, max_length=30, clean=True)[0]
    if greedy.strip() != word:  # it ends within the text
        assert cut.finish_reason == "stop"
        assert not re.search(rf"\b{word}\b", cut.text)


def test_words_of_the_seed_are_the_callers_own():
    sample = prose().generate("ab ", max_length=40, clean=True, random_seed=1)[0]
    assert sample.text.startswith("ab ")
    assert not WORD.search(sample.text[3:])
