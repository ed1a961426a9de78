import random

import pytest

from api.arrivals import LARGEST_HEAD, Arrival

LIMIT = 100
POST = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def fed(data: bytes, step: int) -> tuple[int | None, Arrival]:
    """After how many bytes the request is whole, fed so many at a time."""
    arrival = Arrival(LIMIT)
    for place in range(0, len(data), step):
        arrival.add(data[place : place + step])
        if arrival.is_whole:
            return min(place + step, len(data)), arrival
    return None, arrival


WHOLE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    POST + b"Content-Length: 2\r\n\r\n{}",
    POST + b"content-length:5 \r\nA: b\r\n\r\n{   }",
    POST + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"1;a=b\r\n{\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"000000002\r\n{}\r\n0000000000000000000\r\n\r\n",
    CHUNKED + b"2 ;a=b\r\n{}\r\n0\t;c\r\n\r\n",
    POST + b"Content-Length: 00000000000000000002\r\n\r\n{}",
    b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", WHOLE)
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_a_request_is_whole_with_its_last_byte_and_not_before(data, step):
    place, arrival = fed(data, step)
    assert place == len(data)
    assert arrival.is_complete


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 101\r\n\r\n",  # will be refused
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"2\r\n{}{}\r\n",
        CHUNKED + b"5\r\nabcde\r\n60\r\n" + b" " * 96,
        CHUNKED + b"1" * 1024,
        b"x" * (LARGEST_HEAD + 1),
        CHUNKED + b"0\r\n" + b"A: b\r\n" * 12_000,
    ],
)
def test_what_will_be_refused_is_not_waited_for_and_is_not_complete(data):
    for step in (1, 7, 10_000_000):
        place, arrival = fed(data, step)
        assert place is not None
        assert not arrival.is_complete


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        POST + b"Content-Length: 3\r\n\r\n{}",
        CHUNKED + b"2\r\n{",
        CHUNKED + b"2\r\n{}\r\n0\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\nA: b\r\n",
        CHUNKED + b"ff",
        b"GET / HTTP/1.1\n\n",
    ],
)
def test_half_a_request_is_waited_for(data):
    for step in (1, 1000):
        assert fed(data, step)[0] is None


def test_a_client_that_waits_for_a_word_is_noticed_and_its_wish_taken_out():
    arrival = Arrival(LIMIT)
    arrival.add(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (arrival.expects_a_word, arrival.is_whole) == (True, False)
    arrival.take_word()
    arrival.add(b"{}")
    assert arrival.is_complete
    assert arrival.data == POST + b"Content-Length: 2\r\n\r\n{}"
    old = Arrival(LIMIT)
    old.add(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (old.expects_a_word, old.is_whole) == (False, False)


def test_any_bytes_in_any_pieces_are_followed_without_an_error():
    rng = random.Random(0)
    for _ in range(2000):
        data = bytearray(rng.choice(WHOLE))
        for _ in range(rng.randint(0, 4)):
            data[rng.randrange(len(data))] = rng.choice(b"\r\n 0f;:x")
        places = {fed(bytes(data), step)[0] is None for step in (1, 5, 1000)}
        assert len(places) == 1, bytes(data)
