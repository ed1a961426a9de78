"""The engine: who leads, what each gets, and what becomes of those that leave, are late or slow."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import charrnn
from api.batch import MANY, MOST_STEPS, MOST_UNREAD, Ticket
from api.engine import GATHER_SECONDS, MOST_GATHER_SECONDS, Engine
from charrnn.config import FIRST_SHARED_SEED
from tests.api.tickets import SOON, begun, served, texts_of, ticket_of
from tests.processes import until


def read_along(engine, ticket):
    """Each text of a stream, as its pieces add up."""
    texts, is_over = [""] * ticket.request.config.count, False
    engine.join(ticket)
    while not is_over:
        assert engine.wait(ticket, SOON)
        is_over = ticket.over  # what came before is to be taken yet
        for news in ticket.take():
            texts[news.sample_index] += ticket.generator.piece(news).text
    return texts


def test_a_request_alone_gets_what_the_library_gives(names):
    settings = {"seed": "Tyr", "count": 9, "random_seed": 3}
    expected = names.generate(**settings)
    assert served(Engine(), ticket_of(names, **settings)) == expected


def test_requests_of_many_threads_and_models_get_what_each_gets_alone(names, prose):
    engine, rng = Engine(), np.random.default_rng(0)
    wanted = [
        (
            [names, prose][k % 2],
            {"random_seed": k, "count": int(rng.integers(1, 9)), "max_length": 30 + k},
        )
        for k in range(60)
    ]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda one: served(engine, ticket_of(one[0], **one[1])), wanted))
    assert made == [generator.generate(**settings) for generator, settings in wanted]
    assert engine.live == 0


def test_the_thread_of_a_request_leads_and_those_that_come_meanwhile_share_its_steps(
    prose, monkeypatch
):
    engine, turns, whole = Engine(), [], charrnn.Writer.turn
    both = threading.Event()

    def turn(self, steps, _):
        turns.append((threading.get_ident(), self.live))
        assert both.wait(SOON)
        return whole(self, min(steps, 50))

    monkeypatch.setattr(charrnn.Writer, "turn", turn)
    first = ticket_of(prose, max_length=200)
    second = ticket_of(prose, max_length=400)
    with ThreadPoolExecutor(2) as pool:
        leads = pool.submit(served, engine, first)
        until(lambda: turns, SOON)
        follows = pool.submit(served, engine, second)
        until(lambda: engine._waiting, SOON)
        both.set()
        assert leads.result(SOON)
        assert follows.result(SOON)
    leaders = [leader for leader, _ in turns]
    assert len(set(leaders)) == 2, "the lead was handed on"
    assert leaders.index(leaders[-1]) == leaders.count(leaders[0]), "once"
    assert max(live for _, live in turns) == 2, "in one batch"


def test_a_leader_whose_texts_break_off_hands_the_lead_on(names, monkeypatch):
    """All of the batch are told, and the next request begins afresh."""
    engine, whole, calls = Engine(), charrnn.Writer.turn, []

    def turn(self, *_):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return whole(self, 1)

    monkeypatch.setattr(charrnn.Writer, "turn", turn)
    tickets = [ticket_of(names, count=5) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda ticket: served(engine, ticket), tickets))
    broken = [ticket for ticket in tickets if ticket.error]
    assert broken
    assert all(isinstance(ticket.error, MemoryError) for ticket in broken)
    assert all(ticket.error or len(ticket.samples) == 5 for ticket in tickets)
    settings = {"count": 3, "random_seed": 1}
    assert served(engine, ticket_of(names, **settings)) == names.generate(**settings)


@pytest.mark.parametrize(
    ("place", "name", "at"),
    [(Ticket, "add", 20), (charrnn.Writer, "take_shortfall", 2), (charrnn.Writer, "resume", 3)],
)
def test_whatever_goes_wrong_in_a_turn_no_text_is_whole_without_a_part(
    prose, monkeypatch, place, name, at
):
    engine, whole, calls = Engine(), getattr(place, name), []

    def fail(self, *arguments):
        calls.append(1)
        if len(calls) == at:
            raise MemoryError
        return whole(self, *arguments)

    monkeypatch.setattr(place, name, fail)
    tickets = [
        ticket_of(prose, streamed=k % 2 == 0, count=2, max_length=300, random_seed=k)
        for k in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        read = list(pool.map(lambda ticket: read_along(engine, ticket), tickets))
    assert any(isinstance(ticket.error, MemoryError) for ticket in tickets)
    for k, (ticket, pieces) in enumerate(zip(tickets, read, strict=True)):
        if not ticket.error:
            expected = prose.generate(count=2, max_length=300, random_seed=k)
            assert texts_of(ticket) == expected
            assert not ticket.streamed or pieces == [each.text for each in expected]


@pytest.mark.parametrize("count", [1, 2])  # of which one is brief
@pytest.mark.parametrize("place", [charrnn.Generator, charrnn.Writer])
def test_a_request_that_can_not_join_is_told_and_the_next_one_can(names, monkeypatch, place, count):
    name = "writer" if place is charrnn.Generator else "join"

    def fail(*_):
        raise MemoryError

    engine, ticket = Engine(), ticket_of(names, count=count)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        begun(engine, ticket)
        with suppress(MemoryError):
            engine.wait(ticket, 0.1)
    assert isinstance(ticket.error, MemoryError)
    assert ticket.over
    for settings in ({"count": 3, "random_seed": 1}, {"random_seed": 1}):
        assert served(engine, ticket_of(names, **settings)) == names.generate(**settings)


class SoundSleeper(threading.Event):
    """One whose `wait` ends when it rings, and not before."""

    def __init__(self):
        super().__init__()
        self.rings = threading.Event()

    def wait(self, timeout=None):
        return self.rings.wait(SOON)


def test_who_is_called_to_lead_too_late_calls_the_next(prose):
    """Else the others would sleep until their own time is over."""
    engine = Engine()
    late, other = ticket_of(prose), ticket_of(prose)
    late.wake, seconds = SoundSleeper(), 0.2
    engine._is_led = True  # by somebody who is about to end
    with ThreadPoolExecutor(2) as pool:
        times_out = pool.submit(engine.wait, late, seconds)
        until(lambda: late in engine._waiting, SOON)
        waits = pool.submit(served, engine, other)
        until(lambda: other in engine._waiting, SOON)
        engine._is_led = False
        late.wake.set()  # the lead is handed to who wakes up when its time is over
        time.sleep(seconds)
        late.wake.rings.set()
        assert not times_out.result(SOON)
        assert waits.result(SOON / 2)


def test_who_leaves_as_the_leader_ends_is_let_go(prose):
    """Nobody may come for a long time who would see to it."""
    engine, gone = Engine(), ticket_of(prose, streamed=True, max_length=5000)
    engine.join(gone)
    assert engine.wait(gone, SOON)
    engine._is_led = True  # by somebody who has had their last turn
    with ThreadPoolExecutor(1) as pool:
        leaves = pool.submit(engine.leave, gone)
        until(lambda: gone.left, SOON)
        time.sleep(0.01)
        with engine._leading():
            pass
        leaves.result(SOON)
    assert gone.over
    assert engine.live == 0


def test_a_request_that_leaves_is_written_no_further(prose):
    engine = Engine()
    gone = ticket_of(prose, streamed=True, count=90, max_length=5000)
    engine.join(gone)
    assert engine.wait(gone, SOON)
    assert engine.live > 0
    engine.leave(gone)
    assert engine.live == 0
    assert gone.over
    engine.leave(gone)


def test_a_request_that_leaves_before_it_was_taken_in_is_never_begun(prose):
    engine, ticket = Engine(), ticket_of(prose)
    engine.join(ticket)
    engine.leave(ticket)
    assert ticket.over
    assert not ticket.samples
    assert engine.live == 0


def test_a_request_leaves_while_another_leads(prose):
    engine = Engine()
    long = ticket_of(prose, max_length=5000, random_seed=1)
    short = ticket_of(prose, max_length=5000, streamed=True, count=20)
    with ThreadPoolExecutor(1) as pool:
        engine.join(short)
        assert engine.wait(short, SOON)
        made = pool.submit(served, engine, long)
        engine.leave(short)
        assert made.result(SOON) == prose.generate(max_length=5000, random_seed=1)
    assert engine.live == 0
    assert len(short.samples) < 20


def test_texts_that_are_late_end_as_they_are(prose):
    settings = {"count": 400, "max_length": 10_000, "random_seed": 2}
    ticket = ticket_of(prose, seconds=0.5, **settings)
    made = served(Engine(), ticket)
    assert 1 <= len(made) < 400, "those that had not begun are left out"
    assert "time" in {sample.finish_reason for sample in made}
    whole = prose.generate(**settings | {"count": 3})
    for sample, complete in zip(made, whole, strict=False):
        assert complete.text.startswith(sample.text)
        assert (sample == complete) != (sample.finish_reason == "time")


def test_a_stream_that_nobody_reads_stands_still_and_others_go_on(prose):
    engine = Engine()
    settings = {"count": 20, "max_length": 5000, "random_seed": 4}
    slow = ticket_of(prose, streamed=True, **settings)
    engine.join(slow)
    for seed in range(400):
        other = {"max_length": 500, "random_seed": seed}
        assert served(engine, ticket_of(prose, **other)) == prose.generate(**other)
        if slow.is_behind:
            break
    assert slow.is_behind
    unread = len(slow._news)
    assert unread < (MOST_UNREAD + 20) * 20
    served(engine, ticket_of(prose, max_length=500))
    assert len(slow._news) == unread
    assert engine.live == 0, "its slots are free for others"
    read = {}
    while not slow.over or slow._news:
        assert engine.wait(slow, SOON)
        for news in slow.take():
            read[news.sample_index] = read.get(news.sample_index, "") + news.characters
    assert texts_of(slow) == prose.generate(**settings)
    assert [read[k] for k in range(20)] == [sample.text for sample in texts_of(slow)]


def test_a_wait_ends_in_time_with_nothing_new(prose):
    engine, other = Engine(), ticket_of(prose, streamed=True, max_length=9000)
    engine.join(other)
    never = ticket_of(prose, max_length=200)  # it has not joined
    assert not engine.wait(never, 0.05)
    assert not never.over


@pytest.mark.parametrize("settings", [{}, {"count": 9}, {"streamed": True}])
def test_a_model_that_is_no_longer_served_is_let_go(weights, settings):
    engine = Engine()
    generator = charrnn.load("elves", weights=weights.store)
    served(engine, ticket_of(generator, **settings))
    seen = weakref.ref(generator)
    del generator
    gc.collect()
    assert seen() is None
    assert not engine._batches


def test_the_batch_of_an_older_version_is_let_go_once_it_is_empty(prose, weights):
    engine, newer = Engine(), charrnn.load("prose", weights=weights.store)
    slow = ticket_of(prose, streamed=True, max_length=9000, random_seed=1)
    engine.join(slow)
    assert engine.wait(slow, SOON)
    served(engine, ticket_of(newer, max_length=99, random_seed=1))
    assert set(engine._batches) == {prose, newer}  # somebody is in the older one
    engine.leave(slow)
    served(engine, ticket_of(newer, max_length=99, random_seed=1))
    assert set(engine._batches) == {newer}
    again = {"max_length": 99, "random_seed": 2}
    assert served(engine, ticket_of(prose, **again)) == prose.generate(**again)


@pytest.mark.parametrize("least", [2, MANY + 3])
def test_a_request_among_many_shares_products_if_its_random_seed_is_ours(prose, least, monkeypatch):
    monkeypatch.setitem(vars(prose.compiled), "many", least)
    monkeypatch.setattr("api.engine.LATELY_SECONDS", SOON)  # a loaded machine is slow
    engine, many = Engine(), max(MANY, least)
    brief = [ticket_of(prose, max_length=9) for _ in range(many)]
    for ticket in brief:  # they share with nobody, and so don't count
        engine.join(ticket)
    asked = [ticket_of(prose, max_length=100) for _ in range(2 * many)]
    asked.append(ticket_of(prose, max_length=100, random_seed=7))
    for ticket in asked:
        engine.join(ticket)
    seeds = [ticket.request.random_seed for ticket in asked]
    shared = [seed >= FIRST_SHARED_SEED for seed in seeds]
    assert shared == [False] * (many - 1) + [True] * (many + 1) + [False]
    assert seeds[-1] == 7
    for ticket in brief:
        engine.leave(ticket)
    for ticket, seed in zip(asked, seeds, strict=True):
        assert engine.wait(ticket, SOON)
        assert texts_of(ticket) == prose.generate(max_length=100, random_seed=seed)
        engine.leave(ticket)
        engine.leave(ticket)
    now = time.monotonic()
    for later, alone in ((0, False), (2 * SOON, True)):
        monkeypatch.setattr("api.engine.time.monotonic", lambda later=later: now + later)
        again = ticket_of(prose, max_length=100)
        engine.join(again)
        engine.leave(again)
        assert (again.request.random_seed < FIRST_SHARED_SEED) == alone


@pytest.fixture
def long_texts(prose, monkeypatch):
    """A model whose texts all count as long, and share products as soon as they may."""
    monkeypatch.setattr("charrnn.generator.LONG_BYTES", 0)
    monkeypatch.setitem(vars(prose.compiled), "many", 2)
    return prose


@pytest.mark.parametrize(("count", "are_shared"), [(MANY - 1, False), (MANY, True)])
def test_long_texts_that_come_together_share_products_from_the_first_on(
    long_texts, count, are_shared, monkeypatch
):
    monkeypatch.setattr("api.engine.GATHER_SECONDS", 0.5)  # a loaded machine is slow
    monkeypatch.setattr("api.engine.MOST_GATHER_SECONDS", SOON)
    engine = Engine()
    asked = [ticket_of(long_texts, max_length=100) for _ in range(count)]
    asked.append(ticket_of(long_texts, max_length=100, random_seed=7))
    for ticket in asked[: count - 1]:
        engine.join(ticket)
    engine._turn()
    engine.join(asked[count - 1])
    engine._turn()
    assert engine.live == 0  # nobody has begun: more may come
    for ticket in asked[:-1]:
        assert engine.wait(ticket, SOON)
        seed = ticket.request.random_seed
        assert (seed >= FIRST_SHARED_SEED) == are_shared
        assert texts_of(ticket) == long_texts.generate(max_length=100, random_seed=seed)
    assert served(engine, asked[-1]) == long_texts.generate(max_length=100, random_seed=7)


def test_long_texts_begin_when_nobody_else_comes_and_anyway_after_a_while(long_texts, monkeypatch):
    engine, now = Engine(), [0.0]
    monkeypatch.setattr("api.engine.time.monotonic", lambda: now[0])

    def begins(**settings):
        engine.join(ticket_of(long_texts, max_length=100, **settings))
        return engine._has_gathered()

    assert not begins()
    now[0] += 0.9 * GATHER_SECONDS
    assert not engine._has_gathered()
    now[0] += 0.2 * GATHER_SECONDS
    assert engine._has_gathered()
    engine._welcome()
    assert not begins()
    began = now[0]
    while now[0] < began + MOST_GATHER_SECONDS:
        assert not begins()
        now[0] += 0.5 * GATHER_SECONDS
    assert begins()
    engine._welcome()
    assert not engine._has_gathered()  # there is nobody
    assert not begins()
    assert begins(streamed=True)  # who reads along doesn't wait, and brings the others in


def test_short_names_do_not_wait_for_long_texts(prose):
    """In turns: the most turns that a name of twelve letters may take among long texts."""
    engine, turns, whole = Engine(), [], charrnn.Writer.turn
    long = [ticket_of(prose, streamed=True, max_length=9000) for _ in range(5)]
    for ticket in long:
        engine.join(ticket)
    assert engine.wait(long[0], SOON)
    short = ticket_of(prose, max_length=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charrnn.Writer, "turn", lambda *all_: turns.append(1) or whole(*all_))
        served(engine, short)
    assert len(turns) <= 12


def test_a_long_turn_ends_when_somebody_comes(prose, monkeypatch):
    engine, whole, made = Engine(), charrnn.Writer.turn, []
    first, second, newcomer = (ticket_of(prose, max_length=300) for _ in range(3))

    def turn(self, steps, goes_on):
        asked = []

        def one_comes_after_the_third_step():
            asked.append(1)
            if not made and len(asked) == 3:
                engine.join(newcomer)
            return goes_on()

        news = whole(self, steps, one_comes_after_the_third_step)
        made.append((self.made, self.live))
        return news

    monkeypatch.setattr(charrnn.Writer, "turn", turn)
    monkeypatch.setattr("api.batch.LONG_TURN_SECONDS", SOON)
    engine.join(first)
    engine.join(second)
    for ticket in (first, second, newcomer):
        assert engine.wait(ticket, SOON)
    assert made[:2] == [(3, 2), (MOST_STEPS, 3)]
