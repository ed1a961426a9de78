"""Sentences and tokens: where they begin and end, and that joining them gives the text back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.tokens import LONGEST_SENTENCE, one_line, sentences, tokens, words_of
from charrnn.wordlist import WordVocabulary

WORDS = ("ship", "storm", "Rome", "don't", "naïve", "x2", "3.14", "नमस्ते", "день")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't go.", ["Don't", "go", "."]),
        ("1,000 at 3.14 or $5", ["1,000", "at", "3.14", "or", "$", "5"]),
        ("well-known -- so...", ["well", "-", "known", "--", "so", "..."]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("我是学生。", ["我", "是", "学", "生", "。"]),
        ("can’t", ["can’t"]),
        ("👍🏽 ok", ["👍🏽", "ok"]),
        (" \n\t", []),
        ("", []),
    ],
)
def test_words_and_marks_are_told_apart(text, expected):
    assert words_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Smith met J. Doe. They spoke.", ["Mr. Smith met J. Doe.", "They spoke."]),
        ('"Go!" He went.', ['"Go!"', "He went."]),
        ("It is 3.14 now, e.g. here. Yes.", ["It is 3.14 now, e.g. here.", "Yes."]),
        ("a line\nbroken. Next", ["a line\nbroken.", "Next"]),
        ("no stop\n\nnew paragraph", ["no stop", "new paragraph"]),
        ("我来。你去！好", ["我来。", "你去！", "好"]),
        ("", []),
        ("...", ["..."]),
    ],
)
def test_sentences_end_where_readers_see_it(text, expected):
    assert sentences(text) == expected


def test_lines_that_nobody_wraps_stand_for_themselves():
    long = "word " * 60
    assert sentences(f"{long}\nanother comment\nand one more") == [
        *(long.strip(), "another comment", "and one more")
    ]


def test_a_sentence_without_an_end_is_cut():
    found = sentences("word " * (2 * LONGEST_SENTENCE + 1))
    assert [len(words_of(sentence)) for sentence in found] == [
        *(LONGEST_SENTENCE, LONGEST_SENTENCE, 1)
    ]


@given(st.text())
def test_tokens_hold_all_that_is_no_space(text):
    found = list(tokens(text))
    assert "".join(token.text for token in found) == "".join(text.split())
    assert all(token.text and not any(map(str.isspace, token.text)) for token in found)


@given(st.text())
def test_sentences_hold_all_that_is_no_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@st.composite
def ordinary(draw):
    """A sentence as people write it: words, commas, brackets, a quotation, and a full stop."""
    word = st.sampled_from(WORDS)
    pieces = draw(st.lists(word, min_size=1, max_size=6))
    if draw(st.booleans()):
        pieces.append(f'"{" ".join(draw(st.lists(word, min_size=1, max_size=3)))}"')
    if draw(st.booleans()):
        pieces.append(f"({draw(word)})")
    if draw(st.booleans()):
        pieces[0] += ","
    return " ".join([*pieces, draw(word)]) + draw(st.sampled_from(".!?"))


PATTERN = [
    'ship, storm "Rome" (x2) day don\'t 3.14.',
    'Rome, "naïve ship" (storm) नमस्ते день!',
    "x2 ship don't naïve नमस्ते день 3.14 (Rome) ship?",
]


@settings(deadline=None)
@given(ordinary())
def test_an_ordinary_sentence_comes_back_from_its_ids(sentence):
    vocabulary = WordVocabulary.of(PATTERN, case="keep", largest=100, fewest=1)
    ids = vocabulary.ids_of(sentence)
    assert vocabulary.unknown not in ids
    assert vocabulary.decode(ids) == sentence


@settings(deadline=None)
@given(ordinary(), st.data())
def test_pieces_add_up_to_the_whole(sentence, data):
    vocabulary = WordVocabulary.of(PATTERN, case="sentence", largest=100, fewest=1)
    ids = vocabulary.ids_of(sentence).tolist()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    speller = vocabulary.speller([vocabulary.start])
    pieces = [speller(ids[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    assert "".join(pieces) == vocabulary.decode(ids)


def test_one_line_is_nfc_without_breaks():
    assert one_line(" e\u0301\n x ") == "é x"
