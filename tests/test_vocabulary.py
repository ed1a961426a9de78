"""Text to ids and back, over all of Unicode: what is matched, what is written, what is refused."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.errors import CharRNNError, UnknownCharacterError
from charrnn.vocabulary import (
    CASES,
    END,
    Vocabulary,
    case_of,
    matched,
    sentence_case,
    title_case,
    written,
)

seeded = settings(deadline=None, derandomize=True, database=None)

ANY = st.characters(exclude_categories=())  # every code point, lone surrogates too
TEXTS = st.text(ANY, max_size=30)
# Letters whose case is no plain affair, marks, letters beyond 16 bits, and what parts words.
ODD = st.text(st.sampled_from("ßẞİıIiŉǆǅǄǰﬁΣσςΐևKſéÉe\u0301\u0307\u0345Aaz𐐀𐐨🦖 -'_.9\u00a0\t"))
NAMES = st.one_of(ODD, TEXTS).map(lambda text: " ".join(text.split())).filter(bool)


# --- Ids ------------------------------------------------------------------------------------------


@seeded
@given(st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_decode_undoes_encode_for_every_text(texts, ends):
    if ends:
        texts = [text.replace(END, "") for text in texts]
    vocabulary = Vocabulary.of([*texts, "ab"], ends=ends)
    for text in texts:
        ids = vocabulary.encode(text)
        assert ids.shape == (len(text),)
        assert ids.dtype == np.int64
        assert vocabulary.decode(ids) == text
        assert vocabulary.decode(ids.tolist()) == text


@seeded
@given(st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_symbols_are_in_the_order_of_their_code_points_whatever_the_texts_order(texts, ends):
    vocabulary = Vocabulary.of(texts, ends=ends)
    assert vocabulary == Vocabulary.of(list(reversed(texts)), ends=ends)
    assert list(vocabulary.symbols) == sorted(set("".join(texts)) | ({END} if ends else set()))
    assert (vocabulary.end is not None) == ends
    if ends:
        assert vocabulary.start == vocabulary.end == vocabulary.symbols.index(END)


@seeded
@given(st.lists(TEXTS, min_size=1, max_size=5), st.booleans(), st.sampled_from(CASES))
def test_a_vocabulary_survives_its_json(texts, ends, case):
    vocabulary = Vocabulary.of([*texts, "ab"], ends=ends, case=case)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_running_text_begins_after_a_line_end_or_else_a_space_or_else_the_first_symbol():
    for text, start in (("a b\nc", "\n"), ("a b", " "), ("!ab", "!")):
        vocabulary = Vocabulary.of([text], ends=False)
        assert vocabulary.symbols[vocabulary.start] == start
        assert vocabulary.end is None


@seeded
@given(TEXTS, ANY, TEXTS)
@example("", "\0", "")
@example("ab", "\U0010ffff", "ab")
@example("a", "\ud800", "")
def test_the_first_unknown_character_is_shown_with_its_place_and_the_known_ones(
    before, unknown, after
):
    known = "".join(set(before + "ab") - {unknown, END})
    before = before.replace(unknown, "").replace(END, "")
    vocabulary = Vocabulary.of([known], ends=unknown != END)
    with pytest.raises(UnknownCharacterError) as caught:
        vocabulary.encode(before + unknown + after)
    error = caught.value
    assert (error.character, error.position) == (unknown, len(before))
    assert error.known == "".join(sorted(known))
    assert repr(unknown) in str(error)
    assert f"U+{ord(unknown):04X}" in str(error)
    assert f"position {len(before)} " in str(error)
    assert repr(error.known) in str(error)
    assert isinstance(error, CharRNNError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("text", ["\n", "ab\n", "\nab", "a\nb"])
def test_the_end_symbol_in_a_seed_is_refused(text):
    vocabulary = Vocabulary.of(["ab"], ends=True)
    with pytest.raises(UnknownCharacterError) as caught:
        vocabulary.encode(text)
    assert (caught.value.character, caught.value.position) == (END, text.index(END))
    assert caught.value.known == vocabulary.known_characters == "ab"
    assert vocabulary.decode(vocabulary.ids_of(text)) == text  # but training data holds it


def test_in_running_text_a_line_end_is_a_character_like_another():
    vocabulary = Vocabulary.of(["ab\n"], ends=False)
    assert vocabulary.known_characters == "\nab"
    assert vocabulary.decode(vocabulary.encode("a\nb")) == "a\nb"


# --- What a seed is matched with ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "case", "read"),
    [
        ("Tyr", "title", "tyr"),
        ("TYR", "sentence", "tyr"),
        ("Tyr", "keep", "Tyr"),
        ("e\u0301", "keep", "é"),
        ("E\u0301LAN", "title", "élan"),
        ("ÉLAN", "title", "élan"),
        ("\u1112\u1161\u11ab", "keep", "한"),
        ("A\u030a", "title", "å"),
        ("\u212b", "keep", "Å"),  # the ångström sign
        ("\u212a", "title", "k"),  # the kelvin sign
        ("J\u030c", "title", "ǰ"),  # composed once it is lower case
        ("q\u0307\u0323", "keep", "q\u0323\u0307"),  # no composed form: marks in order
        ("ΣΑΣ", "title", "σας"),
        ("Straße", "title", "straße"),
        ("STRASSE", "title", "strasse"),
        ("🦖", "title", "🦖"),
        ("𐐀", "title", "𐐨"),  # Deseret, beyond the sixteen bits
        ("\ud800A", "title", "\ud800a"),
        ("", "title", ""),
    ],
)
def test_a_seed_is_read_in_one_normal_form_and_one_case(seed, case, read):
    assert matched(seed, case) == read


@seeded
@given(st.one_of(TEXTS, ODD), st.sampled_from(CASES))
def test_matching_twice_changes_nothing_more(text, case):
    assert matched(matched(text, case), case) == matched(text, case)


@seeded
@given(st.one_of(TEXTS, ODD), st.sampled_from(CASES))
def test_every_normal_form_of_a_seed_matches_alike(text, case):
    forms = {matched(unicodedata.normalize(form, text), case) for form in ("NFC", "NFD")}
    assert forms == {matched(text, case)}


# --- The case rule --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "case"),
    [
        (["Allosaurus", "Tyrannosaurus"], "title"),
        (["allosaurus"], "keep"),
        (["ALLO"], "keep"),
        ([], "keep"),
        (["Jean-Paul", "Anna Maria"], "title"),
        (["Tyrannosaurus rex", "Homo sapiens"], "sentence"),
        (["T. rex", "E. coli"], "sentence"),
        (["T. Rex"], "title"),
        (["McDonald", "Smith"], "keep"),
        (["O'Neil"], "keep"),
        (["O'neil"], "title"),
        (["de Gaulle", "Smith"], "keep"),
        (["iPad", "Smith"], "keep"),
        (["3M", "Smith"], "keep"),
        (["3m", "Smith"], "title"),
        (["Straße", "Weiß"], "title"),
        (["ßmall", "Straße"], "title"),  # the capital of ß is two letters: it stays as it is
        (["SSmall", "Straße"], "keep"),
        (["ẞ"], "keep"),
        (["İstanbul", "Ankara"], "keep"),
        (["Iğdır", "Ankara"], "title"),
        (["ısparta", "Ankara"], "keep"),
        (["Οδυσσεύς", "Σίσυφος"], "title"),
        (["ΟΔΥΣΣΕΥΣ"], "keep"),
        (["Οδυσσεύσ", "Άρης"], "title"),  # a wrong final sigma is kept as it is
        (["Élan", "Ö"], "title"),
        (["ǅungla", "Zagreb"], "keep"),
        (["恐竜", "Rex"], "title"),
        (["🦖 Rex"], "title"),
        (["Rex 🦖"], "title"),
        (["𐐀𐐨"], "title"),
        (["A-\u0301b"], "title"),
        (["X_y"], "title"),
        (["X_Y"], "keep"),
    ],
)
def test_lower_case_is_learned_only_where_every_name_survives_it(names, case):
    assert case_of(names) == case


@seeded
@given(st.lists(NAMES, max_size=5))
@example(["ǰ", "Aa"])
@example(["ΐ A"])
def test_the_rule_that_is_chosen_brings_every_name_back(names):
    names = [unicodedata.normalize("NFC", name) for name in names]
    case = case_of(names)
    for name in names:
        assert written(matched(name, case), case) == name


@seeded
@given(st.lists(NAMES, min_size=1, max_size=5))
def test_no_name_is_lost_or_joined_to_another_by_the_rule_that_is_chosen(names):
    names = list(dict.fromkeys(unicodedata.normalize("NFC", name) for name in names))
    case = case_of(names)
    assert len({matched(name, case) for name in names}) == len(names)


@seeded
@given(st.one_of(TEXTS, ODD), st.sampled_from(CASES))
def test_writing_keeps_the_length_and_the_letters(text, case):
    result = written(text, case)
    assert len(result) == len(text)
    for before, after in zip(text, result, strict=True):
        assert after in (before, before.upper())
    assert written(result, case) == result


def test_capitals_come_after_spaces_and_hyphens_alone():
    assert (
        title_case("jean-paul o'neil mcdonald a.b c_d 3d") == "Jean-Paul O'neil Mcdonald A.b C_d 3d"
    )
    assert title_case("a\u00a0b\tc\u2009d--e - f") == "A\u00a0B\tC\u2009D--E - F"
    assert sentence_case("t. rex and I") == "T. rex and I"
    assert title_case(" a") == " A"
    assert sentence_case(" a") == " a"
    assert title_case("ßa ŉa") == "ßa ŉa"
    assert title_case("") == sentence_case("") == ""


# --- Piece by piece -------------------------------------------------------------------------------


@seeded
@given(st.one_of(TEXTS, ODD), st.sampled_from(CASES), st.data())
def test_pieces_written_one_after_the_other_are_the_whole_written_at_once(text, case, data):
    vocabulary = Vocabulary.of(["ab"], ends=True, case=case)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    before, result = "", ""
    for part in parts:
        result += vocabulary.write_on(before, part)
        before += part
    assert result == vocabulary.write(text)


@seeded
@given(st.one_of(TEXTS, ODD), st.sampled_from(CASES))
def test_a_text_written_character_by_character_is_the_whole_written_at_once(text, case):
    vocabulary = Vocabulary.of(["ab"], ends=True, case=case)
    pieces = [vocabulary.write_on(text[:n], character) for n, character in enumerate(text)]
    assert "".join(pieces) == vocabulary.write(text)


@pytest.mark.parametrize(
    ("text", "character", "position"),
    [("TyЖ", "Ж", 2), ("İx", "İ", 0), ("E\u0301!", "!", 1), ("ty\n", "\n", 2), ("☃", "☃", 0)],
)
def test_an_unknown_character_is_shown_as_it_was_typed(text, character, position):
    vocabulary = Vocabulary.of(["tyréix"], ends=True, case="title")
    with pytest.raises(UnknownCharacterError) as caught:
        vocabulary.read(text)
    assert (caught.value.character, caught.value.position) == (character, position)


def test_reading_is_matching_and_encoding():
    vocabulary = Vocabulary.of(["tyré x"], ends=True, case="title")
    text, ids = vocabulary.read("TyRE\u0301 X")
    assert vocabulary.length("TyRE\u0301 X") == len(ids)
    assert text == "tyré x"
    assert ids.tolist() == vocabulary.encode(text).tolist()
