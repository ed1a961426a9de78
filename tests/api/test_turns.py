"""The threads of a worker: few at work at once, and nobody who waits holds up the others."""

import random
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

import api.turns
from api.turns import AT_WORK, REST_SECONDS, STALL_SECONDS, Turns
from tests.processes import until

SOON = 30.0


@pytest.fixture
def turns():
    made = Turns(8)
    yield made
    made.shutdown()


@pytest.fixture
def patient(monkeypatch):
    """Nobody who gives way goes on because it took too long: a busy machine changes no order."""
    monkeypatch.setattr(api.turns, "REST_SECONDS", SOON)


class Watch:
    """How many are at work at a time, and in which threads."""

    def __init__(self):
        self._lock, self.now, self.most, self.threads = threading.Lock(), 0, 0, []

    @contextmanager
    def work(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.append(threading.get_ident())
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


@contextmanager
def held(turns):
    """All turns taken, by tasks that end with the block."""
    begun, go = [], threading.Event()

    def hold():
        begun.append(1)
        assert go.wait(SOON)

    tasks = [turns.submit(hold) for _ in range(AT_WORK)]
    until(lambda: len(begun) == AT_WORK)
    try:
        yield
    finally:
        go.set()
        for task in tasks:
            task.result(SOON)


def test_few_are_at_work_at_a_time_and_first_come_is_first_served(turns):
    watch, order = Watch(), []

    def task(n):
        with watch.work():
            order.append(n)
            time.sleep(0.001)
        return n * n

    with held(turns):
        tasks = [turns.submit(task, n) for n in range(30)]
        assert turns.waiting == 30
    assert [each.result(SOON) for each in tasks] == [n * n for n in range(30)]
    assert watch.most <= AT_WORK
    assert len(set(watch.threads)) <= AT_WORK, "a thread takes the next task itself"
    assert AT_WORK > 1 or order == list(range(30))
    assert turns.waiting == 0


def test_a_system_without_a_thread_to_spare_is_tried_again(turns, monkeypatch, caplog):
    def none(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        waiting = [turns.submit(lambda: "worked") for _ in range(3)]
        time.sleep(2 * STALL_SECONDS)
        turns.see_to_stalls()
    assert not any(task.done() for task in waiting)
    assert caplog.text.count("can't start new thread") == 1
    turns.see_to_stalls()
    assert [task.result(SOON) for task in waiting] == ["worked"] * 3
    assert turns.submit(lambda: "and on").result(SOON) == "and on"


def test_who_steps_aside_lets_others_work_and_comes_back_without_waiting(turns):
    go, back = threading.Event(), threading.Event()

    def waits():
        with turns.aside():
            assert go.wait(SOON)
        back.set()
        return "waited"

    waiting = [turns.submit(waits) for _ in range(3)]
    assert turns.submit(lambda: "worked").result(SOON) == "worked"
    with held(turns):
        go.set()
        assert back.wait(SOON)
        assert [each.result(SOON) for each in waiting] == ["waited"] * 3


def test_who_is_aside_already_is_at_work_no_sooner(turns):
    inner, go = threading.Event(), threading.Event()

    def waits():
        with turns.aside():
            with turns.aside():
                pass
            inner.set()
            assert go.wait(SOON)

    waiting = turns.submit(waits)
    assert inner.wait(SOON)
    assert not turns._at_work
    go.set()
    waiting.result(SOON)


def test_who_gives_way_goes_on_when_no_task_is_left_to_begin(turns, patient):
    order = []

    def task(n):
        turns.give_way()
        order.append(n)

    with held(turns):
        tasks = [turns.submit(task, n) for n in range(3)]
        later = turns.submit(order.append, "later")
    for each in (*tasks, later):
        each.result(SOON)
    assert order == ["later", 0, 1, 2], "the last of them had nobody to give way to but that"
    assert turns.submit(task, 3).result(SOON) is None
    assert turns.waiting == 0


def test_who_is_brought_back_goes_on_before_tasks_begin_and_one_at_a_time(turns, patient):
    watch, order, resting = Watch(), [], []

    def rests(n):
        resting.append(threading.get_ident())
        turns.give_way()
        with watch.work():
            order.append(n)
            time.sleep(0.002)

    def leads():
        turns.bring_back([*resting, 12345])  # of which one is no thread that rests
        turns.bring_back(resting)
        with watch.work():
            order.append("leads")

    with held(turns):
        turns._taken_at = time.monotonic() + SOON  # nobody is given up
        tasks = [turns.submit(rests, n) for n in range(3)]
        tasks.append(turns.submit(leads))
        tasks += [turns.submit(order.append, "later") for _ in range(2)]
    for each in tasks:
        each.result(SOON)
    assert order == ["leads", 0, 1, 2, "later", "later"]
    assert watch.most == AT_WORK


def test_who_gives_way_does_so_to_the_tasks_that_wait_then_and_to_none_that_come_later(turns):
    ended, tasks = threading.Event(), []

    def rests():
        turns.give_way()
        ended.set()
        return len(tasks)

    def goes_on():
        if not ended.is_set():
            tasks.extend(turns.submit(goes_on) for _ in range(2))

    with held(turns):
        resting = turns.submit(rests)
        tasks += [turns.submit(goes_on) for _ in range(3)]
    assert resting.result(SOON) <= 3 + 3 * 2
    for each in tasks:
        each.result(SOON)


def test_who_is_not_at_work_has_no_way_to_give(turns):
    """As whoever waits for a client that gunicorn reads itself."""

    def task():
        with turns.aside(), held(turns):
            later = turns.submit(int)
            turns.give_way()
            assert not later.done()
            assert turns.waiting == 1
        return later

    assert turns.submit(task).result(SOON).result(SOON) == 0


def test_who_gives_way_rests_for_a_while_only_where_tasks_take_long(turns):
    begun = []

    def slow():
        begun.append(1)
        time.sleep(2 * REST_SECONDS)

    def rests():
        turns.give_way()
        return len(begun)

    with held(turns):
        resting = turns.submit(rests)
        tasks = [turns.submit(slow) for _ in range(5)]
    assert resting.result(SOON) == 1
    for each in tasks:
        each.result(SOON)


def test_where_all_threads_rest_one_goes_on(turns):
    few, rested = Turns(2), []

    def rests(n):
        few.give_way()
        rested.append(n)

    with held(few):
        tasks = [few.submit(rests, n) for n in range(6)]
    end = time.monotonic() + SOON
    while not all(each.done() for each in tasks):
        assert time.monotonic() < end
        few.see_to_stalls()
        time.sleep(STALL_SECONDS / 4)
    assert sorted(rested) == list(range(6))
    few.shutdown()


def test_who_rests_goes_on_when_the_pool_ends():
    turns, rested, never = Turns(4), threading.Event(), threading.Event()
    begun, go = threading.Event(), threading.Event()

    def rests():
        turns.give_way()
        rested.set()

    def work():
        begun.set()
        assert go.wait(SOON)

    with held(turns):
        resting, works = turns.submit(rests), turns.submit(work)
        turns.submit(never.set)
    assert begun.wait(SOON)
    ends = threading.Thread(target=turns.shutdown)
    ends.start()
    until(lambda: turns._is_over)
    go.set()
    for each in (resting, works):
        each.result(SOON)
    ends.join(SOON)
    assert not ends.is_alive()
    assert rested.is_set()
    assert not never.is_set(), "nothing more begins"


def test_who_waits_and_has_not_said_so_is_given_up_after_a_while(turns):
    watch = Watch()

    def task():
        with watch.work():
            time.sleep(0.001)

    with held(turns):
        tasks = [turns.submit(task) for _ in range(20)]
        began = time.monotonic()
        while not all(each.done() for each in tasks):
            turns.see_to_stalls()
            time.sleep(0.001)
            assert time.monotonic() - began < SOON
        assert time.monotonic() - began > STALL_SECONDS / 2
    assert watch.most <= AT_WORK
    until(lambda: not turns._at_work)  # who was given up has ended, too


def test_nobody_is_given_up_while_tasks_are_taken(turns):
    begun = threading.Event()
    with held(turns):
        turns._taken_at = time.monotonic() + SOON
        task = turns.submit(begun.set)
        turns.see_to_stalls()
        assert not begun.wait(5 * STALL_SECONDS)
    task.result(SOON)


def test_what_a_task_raises_is_its_own(turns):
    def fails():
        raise SystemExit("of a request")

    failed, next_ = turns.submit(fails), turns.submit(lambda: 1)
    assert isinstance(failed.exception(SOON), SystemExit)
    assert next_.result(SOON) == 1


def test_where_all_threads_wait_the_next_task_waits_for_one(turns):
    few, go = Turns(2), threading.Event()

    def waits():
        with few.aside():
            return go.wait(SOON)

    waiting = [few.submit(waits) for _ in range(2)]
    later = [few.submit(lambda: "later") for _ in range(3)]
    time.sleep(3 * STALL_SECONDS)
    few.see_to_stalls()
    assert not any(each.done() for each in later)
    go.set()
    assert [each.result(SOON) for each in later] == ["later"] * 3
    assert all(each.result(SOON) for each in waiting)
    few.shutdown()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_they_do_all_tasks_end_and_nobody_is_left_at_work(turns, seed):
    rng, resting = random.Random(seed), set()
    kinds = {"aside": 4, "waits": 0.3, "gives way": 4, "brings back": 2, "fails": 1, "nothing": 8}

    def task(n, does):
        if does == "aside":
            with turns.aside():
                time.sleep(n % 5 / 2000)
        elif does == "waits":
            time.sleep(n % 3 / 50)
        elif does == "gives way":
            resting.add(threading.get_ident())
            turns.give_way()
            resting.discard(threading.get_ident())
        elif does == "brings back":
            turns.bring_back(rng.sample(sorted(resting), len(resting) // 2))
        elif does == "fails":
            raise ValueError(n)
        return n

    tasks = []
    for n in range(400):
        does = rng.choices(list(kinds), list(kinds.values()))[0]
        tasks.append((does, turns.submit(task, n, does)))
        if n % 7 == 0:
            time.sleep(rng.random() / 200)
        turns.see_to_stalls()
    end = time.monotonic() + SOON
    while not all(each.done() for _, each in tasks):
        assert time.monotonic() < end
        turns.see_to_stalls()
        time.sleep(STALL_SECONDS / 4)
    for n, (does, each) in enumerate(tasks):
        assert (each.exception() is None) == (does != "fails")
        assert does == "fails" or each.result() == n
    until(lambda: not turns._at_work and not turns._called)
    assert turns.waiting == 0


def test_after_the_end_nothing_more_begins():
    turns, began = Turns(2), []
    with held(turns):
        turns.submit(began.append, 1)
        turns._is_over = True
    turns.shutdown()
    assert not began


def test_a_pool_that_has_ended_takes_no_more():
    turns = Turns(2)
    turns.shutdown()
    late = turns.submit(lambda: 1)
    with pytest.raises((TimeoutError, CancelledError)):
        late.result(0.05)
