"""Running text, word by word. What it looks like to a reader is `test_blocklist`'s."""

import pytest

from charrnn.blocklist import JUDGED, Blocklist
from charrnn.runs import Stretch
from charrnn.texts import NOTED, Language, Text
from charrnn.wording import Wording
from tests.models import running

TURN = 32


@pytest.mark.parametrize("at_once", [1, 50])
def test_a_word_without_an_end_is_not_kept_as_a_whole(at_once):
    """Else each symbol of a text without spaces would take longer than the one before."""
    wording = Wording(Blocklist.shipped(), "")
    for _ in range(20 * JUDGED // at_once):
        if at_once == 1:
            assert not wording.add(3, "a", 0, 0.0)
        else:
            assert wording.add_clean([3] * at_once, "a" * at_once) is not None
        assert len(wording._word) <= JUDGED


def test_behind_a_word_of_thousands_of_symbols_a_text_goes_back_far_once():
    """The place of each note is here how many symbols stand before it."""
    made = running("ab ")
    made.blocklist = Blocklist(["b"])
    text = Text(Language(made.vocabulary, None), 0, 0, made.request(max_length=9_999, clean=True))
    whole = "a" * 2_000 + " "

    def draw(characters, begin):
        for start in range(0, len(characters), TURN):
            ids = made.vocabulary.encode(characters[start : start + TURN]).tolist()
            text.add(Stretch(0, ids, [-1.0] * len(ids), None))
            if text.goes_back:
                return
            if text.lacks_place():
                text.note(begin + start + len(ids))

    def go_back():
        place, again, length = text.go_back()
        assert length == len(whole)
        assert made.vocabulary.decode(again) == whole[place or 0 :]
        return place or 0, len(again)

    draw(whole + "b ", 0)
    assert text.goes_back
    place, again = go_back()
    assert again > 1_500, "the word was only over when it was drawn"
    for _ in range(3):
        draw(whole[place:] + "b ", place)
        assert text.goes_back
        place, again = go_back()
        assert again < NOTED + 2 * TURN
    draw(whole[place:] + "ab ab ", place)
    assert not text.goes_back
    assert text.cut("time").sample.text == whole + "ab ab "
