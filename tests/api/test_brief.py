"""Short texts of small networks: by their own threads, or along with those of others that wait."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import api.engine
import charrnn
from api.batch import MANY
from api.engine import MOST_BRIEF, Engine
from api.turns import Turns
from charrnn.generator import IDLE_WRITERS
from tests.api.tickets import SOON, begun, served, texts_of, ticket_of


def test_a_brief_text_is_written_beside_the_batch_and_is_the_same(names, prose):
    """By its own thread, while others are being written, and again in a batch."""
    engine, long = Engine(), ticket_of(prose, streamed=True, max_length=9000)
    engine.join(long)
    assert engine.wait(long, SOON)
    for settings in ({}, {"seed": "Ty", "max_length": 30}, {"contains": "a"}, {"avoid": ["Rex"]}):
        asked = {**settings, "random_seed": 5}
        ticket = ticket_of(names, **asked)
        assert ticket.is_brief
        assert served(engine, ticket) == names.generate(**asked)
        streamed = ticket_of(names, streamed=True, **asked)
        assert served(engine, streamed) == texts_of(ticket)
        assert set(engine._batches) == {prose, names}
        engine._batches.pop(names)
    assert not long.over


def test_brief_texts_of_many_threads_are_each_ones_own(names, monkeypatch):
    monkeypatch.setattr(api.engine, "BRIEF_SECONDS", SOON)
    engine = Engine()
    expected = [names.generate(random_seed=k, max_length=40) for k in range(40)]
    tickets = [ticket_of(names, random_seed=k, max_length=40) for k in range(40)]
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(lambda ticket: served(engine, ticket), tickets)) == expected
    assert not engine._batches
    assert len(names._idle) <= IDLE_WRITERS


def test_a_brief_text_waits_in_time_and_ends_when_it_is_late_or_left(names, monkeypatch):
    engine = Engine()
    with monkeypatch.context() as patch:
        patch.setattr(charrnn.Writer, "turn", lambda *_: [])  # it comes to nothing
        ticket = ticket_of(names, random_seed=1)
        begun(engine, ticket)
        assert not engine.wait(ticket, 0.05)
        engine.leave(ticket)
        assert ticket.over
    late = ticket_of(names, seconds=-1)
    assert served(engine, late) == []
    monkeypatch.setattr(
        charrnn.Writer, "turn", lambda *_: (_ for _ in ()).throw(MemoryError("none left"))
    )
    broken = ticket_of(names)
    assert served(engine, broken) == []
    assert isinstance(broken.error, MemoryError)
    monkeypatch.undo()
    assert served(engine, ticket_of(names, random_seed=1)) == names.generate(random_seed=1)


@pytest.fixture
def turns():
    made = Turns(40)
    yield made
    made.shutdown()


@pytest.fixture
def sizes(monkeypatch):
    """How many requests each batch of brief texts was of."""
    monkeypatch.setattr(api.engine, "BRIEF_SECONDS", SOON)
    made, write = [], Engine._write_alike

    def count(engine, tickets):
        made.append(len(tickets))
        write(engine, tickets)

    monkeypatch.setattr(Engine, "_write_alike", count)
    return made


def written_in_turns(turns, engine, jobs):
    """As requests of a worker that come while its threads have no time: each of several tickets."""
    go = threading.Event()
    turns.submit(go.wait, SOON)

    def write(tickets):
        engine.write(tickets, turns)
        return [texts_of(ticket) for ticket in tickets if engine.wait(ticket, SOON)]

    tasks = [turns.submit(write, tickets) for tickets in jobs]
    go.set()
    return [task.result(SOON) for task in tasks]


@pytest.mark.parametrize("count", [1, 2, 7, 35])
def test_brief_texts_of_requests_that_wait_for_a_thread_are_written_together(
    names, turns, sizes, count
):
    engine = Engine()
    asked = [{"random_seed": k, "max_length": 12 + k % 9} for k in range(count)]
    jobs = [[ticket_of(names, **settings)] for settings in asked]
    made = written_in_turns(turns, engine, jobs)
    assert made == [[names.generate(**settings)] for settings in asked]
    assert sum(sizes) == count
    assert max(sizes) >= min(count, MOST_BRIEF) / 4, "a loaded machine may cut them up"
    assert not engine._brief
    assert len(names._idle) <= IDLE_WRITERS


def test_brief_texts_of_two_networks_and_of_one_request_are_written_along(names, prose, turns):
    engine, settings = Engine(), {"random_seed": 3, "max_length": 20}
    both = [ticket_of(names, **settings), ticket_of(prose, **settings)]
    jobs = [both, [ticket_of(prose, **settings)], [ticket_of(names, **settings)] * 1]
    name, text = names.generate(**settings), prose.generate(**settings)
    assert written_in_turns(turns, engine, jobs) == [[name, text], [text], [name]]


def test_who_shares_products_in_such_a_batch_has_a_seed_that_says_so(names, turns, sizes):
    tickets = [ticket_of(names, max_length=20) for _ in range(MOST_BRIEF)]
    written_in_turns(turns, Engine(), [[ticket] for ticket in tickets])
    shared = [ticket for ticket in tickets if ticket.request.is_shared]
    assert bool(shared) == (max(sizes) >= max(MANY, names.many))
    for ticket in tickets:
        settings = {"max_length": 20, "random_seed": ticket.request.random_seed}
        assert texts_of(ticket) == names.generate(**settings)


def test_a_brief_text_that_takes_long_goes_the_way_of_all_others(names, prose, turns, monkeypatch):
    """So that nobody waits for it, and it can be left."""
    monkeypatch.setattr(api.engine, "BRIEF_SECONDS", 0.0)
    engine = Engine()
    asked = [(names, {"max_length": 30}), (prose, {"max_length": 30}), (names, {"seed": "Ty"})]
    tickets = [ticket_of(which, random_seed=8, **settings) for which, settings in asked]
    made = written_in_turns(turns, engine, [[ticket] for ticket in tickets])
    assert made == [[which.generate(random_seed=8, **each)] for which, each in asked]
    for ticket in tickets:
        assert not ticket.is_brief
        assert ticket.characters == sum(
            len(sample.text) - len(ticket.request.seed) for sample in texts_of(ticket)
        )
        engine.leave(ticket)
    assert engine._at_work == 0
    assert engine.live == 0


def test_what_goes_wrong_with_brief_texts_is_told_to_each(names, prose, turns, monkeypatch):
    def fail(_):
        raise MemoryError("no writer")

    engine, well = Engine(), ticket_of(prose, random_seed=1, max_length=20)
    tickets = [ticket_of(names, random_seed=k) for k in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr(names, "writer", lambda: fail(None))
        made = written_in_turns(turns, engine, [[each] for each in [*tickets, well]])
    assert made == [[[]]] * 5 + [[prose.generate(random_seed=1, max_length=20)]]
    assert all(isinstance(ticket.error, MemoryError) for ticket in tickets)
    assert well.error is None
    assert not engine._brief
    assert served(engine, ticket_of(names, random_seed=1)) == names.generate(random_seed=1)
