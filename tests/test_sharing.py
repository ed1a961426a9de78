"""Memory and messages between processes; here, between two ends in one."""

import os
import threading

import numpy as np
import pytest

from charrnn import sharing
from charrnn.sharing import Channel, SharedMemory
from tests.processes import open_files


@pytest.fixture(params=["memory", "file"])
def memory(request, monkeypatch):
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    return SharedMemory.new()


@pytest.fixture
def ends():
    first_reads, second_writes = os.pipe()
    second_reads, first_writes = os.pipe()
    made = [Channel(first_reads, first_writes), Channel(second_reads, second_writes)]
    yield made
    for end in made:
        end.close()


def test_both_sides_see_the_same_arrays_and_none_lies_over_another(memory):
    described = (((3, 5), np.float32), ((7,), np.int64), ((0,), np.int64), ((2,), np.float64))
    ours = memory.arrays(24, *described)
    theirs = SharedMemory(os.dup(memory.fd)).arrays(24, *described)
    for n, array in enumerate(ours):
        array[...] = n + 1
    for n, array in enumerate(theirs):
        assert array.shape == described[n][0]
        assert (array == n + 1).all()


def test_arrays_stay_when_the_memory_grows(memory):
    (small,) = memory.arrays(0, ((4,), np.float64))
    small[:] = 7
    large, behind = memory.arrays(0, ((1_000_000,), np.float64), ((3,), np.float64))
    assert (large[:4] == 7).all()
    large[0] = behind[2] = 8
    assert small[0] == 8


def test_arrays_live_longer_than_the_memory_object_and_its_file():
    before = open_files()
    memory = SharedMemory.new()
    (array,) = memory.arrays(0, ((1000,), np.float32))
    array[:] = 3
    del memory
    assert array.sum() == 3000
    del array
    assert open_files() == before


@pytest.mark.parametrize("spin", [0.0, 10.0])
def test_messages_arrive_whole_and_in_turn_asleep_or_awake(ends, spin, monkeypatch):
    monkeypatch.setattr(sharing, "SPIN_SECONDS", spin)
    first, second = ends

    def echo():
        for _ in range(200):
            second.send(second.receive())

    thread = threading.Thread(target=echo)
    thread.start()
    messages = [{"n": n, "value": n / 3, "text": "é" * (n * n)} for n in range(200)]
    for message in messages:
        first.send(message)
        assert first.receive() == message
    thread.join()


def test_numbers_keep_every_bit(ends):
    numbers = [0.1 + 0.2, 1e-320, 2**53 - 1, float("inf")]
    ends[0].send(numbers)
    assert ends[1].receive() == numbers


def test_the_end_of_the_other_side_is_told():
    reads, writes = os.pipe()
    other_reads, other_writes = os.pipe()
    ours = Channel(reads, other_writes)
    threading.Timer(0.1, os.close, (writes,)).start()
    with pytest.raises(EOFError):
        ours.receive()
    os.close(other_reads)
    with pytest.raises(BrokenPipeError):
        ours.send({})
    ours.close()
