"""Running text, word by word. What it looks like to a reader is `test_blocklist`'s."""

import pytest

from charrnn.blocklist import JUDGED, Blocklist
from charrnn.wording import Wording


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
