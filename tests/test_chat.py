"""A chat keeps its state, costs a turn its own characters, and takes whatever is typed."""

import json
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import charrnn
from charrnn.chat import NOTHING, heard, transcript
from charrnn.config import CHAT_TEMPERATURE, LONGEST_HISTORY, LONGEST_REPLY, LONGEST_TURN
from charrnn.errors import ConfigError
from charrnn.vocabulary import Vocabulary
from tests.models import frozen, generator, running, titled

SYMBOLS = "\n abcdefghijklmnopqrstuvwxyz0123456789'.,!?->"
VOCABULARY = Vocabulary.of([SYMBOLS], ends=False)


@pytest.fixture(scope="module")
def bot():
    return generator(frozen("chat", VOCABULARY, hidden=16, cell="gru", seed=3))


def talk(chat, *lines):
    return [chat.say(line) for line in lines]


# --- What a person types --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("Hello, Rex!", "hello, rex!"),
        ("  a \t b\nc\r\n\u2003d  ", "a b c d"),
        ("Éclair à la Škoda", "eclair a la skoda"),
        ("what’s “up” — eh…", "what's up - eh..."),
        ("ＦＵＬＬ ﬁ ½", "full fi"),  # of a fraction its stroke is not known
        ("> > hi > there", "hi there"),
        ("😀", NOTHING),
        ("", NOTHING),
        ("\0\x1b[31m\ud800恐竜", "31m"),
    ],
)
def test_what_is_typed_is_mapped_by_a_fixed_rule(typed, read):
    assert heard(typed, VOCABULARY) == read


def test_letters_that_the_model_knows_stay_as_they_are():
    vocabulary = Vocabulary.of(["\n Ééaß?>"], ends=False)
    assert heard("ÉéEaAß", vocabulary) == "Ééaaß"


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(), max_size=700))
@example("ﷺ" * 1000)
@example("a\u0301" * 5000)
def test_whatever_is_typed_becomes_a_line_that_the_model_can_read(text):
    line = heard(text, VOCABULARY)
    assert 1 <= len(line) <= LONGEST_TURN
    assert line == line.strip()
    assert not set(line) - set(SYMBOLS) | set(line) & set("\n>")
    assert heard(line, VOCABULARY) == line


@pytest.mark.parametrize("what", [None, 7, b"hello", ["hello"], float("nan")])
def test_what_is_no_text_is_refused_and_changes_nothing(bot, what):
    chat = bot.chat(random_seed=1)
    before = chat.save()
    for way in (chat.say, chat.stream):
        with pytest.raises(ConfigError, match="text must be text"):
            way(what)
    assert chat.save() == before


def test_an_earlier_talk_is_cut_from_the_front_by_whole_turns():
    turns = [(f"question {n}", "an answer " * 20) for n in range(30)]
    read = transcript(turns, "now", VOCABULARY)
    assert LONGEST_HISTORY - 300 < len(read) <= LONGEST_HISTORY + len("> now\n")
    first, *_ = read.split("\n")
    assert first.startswith("> question ")
    assert read.endswith("answer\n> now\n")
    assert transcript(turns[:1], "now", VOCABULARY).startswith("> question 0\nan answer")


# --- Turns ----------------------------------------------------------------------------------------


def test_the_state_between_turns_is_that_of_reading_the_whole_talk(bot):
    chat = bot.chat(random_seed=1)
    said = [(line, chat.say(line)) for line in ("hello", "what did it eat?", "when")]
    ids = VOCABULARY.ids_of("\n" + "".join(f"> {line}\n{reply}\n" for line, reply in said))
    state = bot.model.init_state(1)
    for id_ in ids[:-1]:  # the last is read with the next turn
        _, state = bot.model.step(np.array([id_]), state)
    np.testing.assert_allclose(chat._position.state, state[:, :, 0], atol=1e-5)
    assert VOCABULARY.symbols[chat._position.id] == "\n"


def test_a_reply_is_one_line_never_empty_and_no_longer_than_asked(bot):
    for seed in range(20):
        chat = bot.chat(random_seed=seed, temperature=1.5, max_length=40)
        for reply in talk(chat, "hello", "why", "???"):
            assert "\n" not in reply
            assert reply[:1].strip()
            assert len(reply) <= 40
    assert max(len(r) for r in talk(bot.chat(random_seed=2, temperature=0), "a")) <= LONGEST_REPLY


def test_a_turn_reads_only_its_own_characters_however_long_the_talk(bot, monkeypatch):
    read = []
    whole = type(bot.compiled)._read
    monkeypatch.setattr(
        type(bot.compiled),
        "_read",
        lambda self, ids, state: (read.append(len(ids)), whole(self, ids, state))[1],
    )
    chat = bot.chat(random_seed=1, max_length=30)
    for _ in range(200):
        before = len(read)
        reply = chat.say("and then?")
        lines = [len("> and then?\n") + 1, len(reply) + 2]  # each with the newline before it
        assert read[before:] == lines
    assert chat.turns == 200


def test_a_stream_gives_what_say_gives(bot):
    one, other = bot.chat(random_seed=5), bot.chat(random_seed=5)
    for line in ("hello", "what?", "😀"):
        pieces = list(one.stream(line))
        assert "".join(pieces) == other.say(line)
        assert len(pieces) <= 1 or max(map(len, pieces)) < sum(map(len, pieces))
    assert one.save() == other.save()


def test_the_same_seed_gives_the_same_talk_and_another_another(bot):
    lines = ["hello", "what?", "and?"]
    first = talk(bot.chat(random_seed=5, temperature=1), *lines)
    assert talk(bot.chat(random_seed=5, temperature=1), *lines) == first
    assert talk(bot.chat(random_seed=6, temperature=1), *lines) != first
    chat = bot.chat(temperature=1)
    again = bot.chat(temperature=1, random_seed=chat.random_seed)
    assert talk(chat, *lines) == talk(again, *lines)


def test_a_reset_talk_begins_as_a_new_one(bot):
    chat = bot.chat(random_seed=5, temperature=1)
    first = talk(chat, "hello", "what?")
    chat.reset()
    assert chat.turns == 0
    assert talk(chat, "hello", "what?") == first


def test_settings_change_from_the_next_reply_on(bot):
    chat = bot.chat(random_seed=5)
    assert chat.temperature == CHAT_TEMPERATURE
    chat.change(temperature=0.0, max_length=3)
    assert chat.temperature == 0
    assert len(chat.say("hello")) <= 3
    chat.change(random_seed=9)
    assert (chat.random_seed, chat.turns) == (9, 0)
    with pytest.raises(ConfigError, match="temperature must be from 0 to 10"):
        chat.change(temperature=-1)
    assert chat.temperature == 0


# --- A stream that is left ------------------------------------------------------------------------


def test_a_stream_that_is_closed_early_is_remembered_as_far_as_it_went(bot):
    chat, other = bot.chat(random_seed=5, temperature=1.2), bot.chat(random_seed=5, temperature=1.2)
    stream = chat.stream("hello")
    said = next(stream) + next(stream)
    stream.close()
    assert chat.turns == 1
    read = f"> hello\n{said}\n"
    position = other._read(other._position, VOCABULARY.ids_of(read).tolist())
    np.testing.assert_allclose(chat._position.state, position.state, atol=1e-6)


def test_a_new_turn_ends_a_stream_that_is_still_open(bot):
    chat = bot.chat(random_seed=5, temperature=1.2)
    stream = chat.stream("hello")
    next(stream)
    chat.say("never mind")
    assert list(stream) == []
    assert chat.turns == 2


def test_threads_that_share_a_chat_take_turns(bot):
    chat, replies = bot.chat(random_seed=5, temperature=1), []
    threads = [
        threading.Thread(target=lambda: replies.extend(talk(chat, *["hello"] * 5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = bot.chat(random_seed=5, temperature=1)
    assert sorted(replies) == sorted(talk(alone, *["hello"] * 20))
    assert chat.save() == alone.save()


# --- Kept talks -----------------------------------------------------------------------------------


def test_a_restored_talk_goes_on_as_if_it_had_never_stopped(bot):
    chat = bot.chat(random_seed=5, temperature=1, top_k=9)
    talk(chat, "hello", "what?")
    kept = json.loads(json.dumps(chat.save()))
    other = bot.chat()
    other.restore(kept)
    assert talk(other, "and?", "why?") == talk(chat, "and?", "why?")
    assert other.save() == chat.save()


def spoiled():
    yield "nothing", lambda kept: None
    yield "text", lambda kept: "talk"
    yield "empty", lambda kept: {}
    yield "another version", lambda kept: kept | {"version": "f" * 12}
    yield "another format", lambda kept: kept | {"format": 2}
    yield "a short state", lambda kept: kept | {"state": kept["state"][:8]}
    yield "no base64", lambda kept: kept | {"state": "é"}
    yield "NaN", lambda kept: kept | {"state": "AADAfw==" * 16}
    yield "a wrong setting", lambda kept: kept | {"settings": {"temperature": "hot"}}
    yield "no turns", lambda kept: {k: v for k, v in kept.items() if k != "turns"}
    yield "a turn too few", lambda kept: kept | {"turns": -1}
    yield "an unknown symbol", lambda kept: kept | {"last": "恐"}
    yield "no symbol", lambda kept: kept | {"last": ""}


@pytest.mark.parametrize(("what", "spoil"), list(spoiled()), ids=lambda part: str(part)[:20])
def test_what_save_did_not_give_is_refused_and_changes_nothing(bot, what, spoil):
    chat = bot.chat(random_seed=5)
    chat.say("hello")
    before = chat.save()
    with pytest.raises(ConfigError):
        chat.restore(spoil(dict(before)))
    assert chat.save() == before


# --- Which models chat ----------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "kind"), [(titled(), "names"), (running(), "text")])
def test_a_model_that_learned_from_no_conversations_does_not_chat(model, kind):
    with pytest.raises(ConfigError, match=f"learned from conversations, as rex is, got .* {kind}"):
        model.chat()


def test_a_chat_has_one_reply_at_a_time(bot):
    with pytest.raises(ConfigError, match="min_length must be left out in a chat"):
        bot.chat(min_length=9)
    with pytest.raises(ConfigError, match="count must be 1 in a chat, got 2"):
        bot.chat(count=2)


def test_a_text_of_such_a_model_ends_with_the_conversation(bot):
    samples = bot.generate(count=50, random_seed=1, max_length=400)
    assert not any("\n\n" in sample.text for sample in samples)
    assert {sample.novel for sample in samples} == {None}


def test_a_history_that_is_read_again_gives_the_reply_that_the_chat_gave(bot):
    """Up to what rounding does: the same characters in the same order."""
    chat = bot.chat(temperature=0)
    turns = [(line, chat.say(line)) for line in ("hello", "what did it eat?")]
    config = charrnn.GenerationConfig(temperature=0, random_seed=0)
    request = bot.reply_request(turns, "when?", config)
    writer = bot.writer()
    (last,) = [news.sample for news in writer.write([request], 64) if news.sample]
    assert last.text == chat.say("when?")
