"""The bytes of a request as they arrive: whether they are all that it takes to answer it.

This is not the parser and refuses nothing. It only tells when there is nothing to wait for any
more; whatever is odd goes to the parser at once, which finds an end behind what has arrived. Each
byte is looked at once.
"""

import re

LARGEST_HEAD = 65_536  # bytes; of trailers too: more is not waited for
LONGEST_SIZE_LINE = 1024  # of a chunk
HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNK = re.compile(rb"0*([0-9a-fA-F]{1,16})(?:[ \t]*;[^\r\n]*)?\r\n")
_OLD = re.compile(rb"[^\r]* HTTP/1\.0\r\n")  # whose clients know of no word to wait for
MOST_DIGITS = 18  # of a length: more are as large as that


class Arrival:
    """One request's bytes. A body above `largest_body` is not waited for: it will be refused."""

    def __init__(self, largest_body: int) -> None:
        self.data = bytearray()
        self.is_whole = False  # a thread can answer it
        self.is_complete = False  # and nothing of the request is still to come
        self.expects_a_word = False  # before the client sends its body
        self._largest_body = largest_body
        self._body = 0  # where it begins; 0 before the head has ended
        self._length: int | None = None  # of the body; None where it comes in chunks
        self._place = 0  # where the next chunk begins
        self._in_chunks = 0  # bytes of the body, without the chunks' own

    def add(self, piece: bytes) -> None:
        """Take the next bytes, and tell what they are in `is_whole` and the other attributes."""
        looked_at = len(self.data)
        self.data += piece
        if not self._body and not self._find_head(looked_at):
            self.is_whole = len(self.data) > LARGEST_HEAD
            return
        if self._length is None:
            self._follow_chunks()
        else:
            self.is_complete = len(self.data) - self._body >= self._length
            self.is_whole = self.is_complete or self._length > self._largest_body

    def _find_head(self, looked_at: int) -> bool:
        if self.data.startswith(b"\r\n"):  # empty lines before a request mean nothing
            self.data = self.data.lstrip(b"\r\n")
            looked_at = 0
        end = self.data.find(HEAD_END, max(looked_at - len(HEAD_END) + 1, 0))
        if end < 0:
            return False
        head = bytes(self.data[: end + 2])
        is_chunked, length = _CHUNKED.search(head), _LENGTH.search(head)
        self._length = None if is_chunked else int(length[1][:MOST_DIGITS]) if length else 0
        has_body = bool(is_chunked or length)
        self.expects_a_word = has_body and bool(_EXPECT.search(head)) and not _OLD.match(head)
        self._body = self._place = end + len(HEAD_END)
        return True

    def take_word(self) -> None:
        """The client was told to go on: its wish is taken out, so that nobody tells it again."""
        head = _EXPECT.sub(b"", bytes(self.data[: self._body]))
        shorter = self._body - len(head)
        self.data[: self._body] = head
        self._body -= shorter
        self._place -= shorter
        self.expects_a_word = False

    def _follow_chunks(self) -> None:
        """Go on to the last chunk, to something that is no chunk, or to more than is allowed."""
        data = self.data
        while self._place < len(data):
            size = _CHUNK.match(data, self._place, self._place + LONGEST_SIZE_LINE)
            if size is None:  # half a size line may still become one
                line = data[self._place : self._place + LONGEST_SIZE_LINE]
                self.is_whole = b"\n" in line or len(line) == LONGEST_SIZE_LINE
                return
            begin, count = size.end(), int(size[1], 16)
            if count == 0:  # what follows is trailers and an empty line
                ended = data.startswith(b"\r\n", begin) or data.find(HEAD_END, begin) >= 0
                self.is_complete = ended
                self.is_whole = ended or len(data) - begin > LARGEST_HEAD
                return
            if self._in_chunks + min(count, len(data) - begin) > self._largest_body:
                self.is_whole = True
                return
            if begin + count + 2 > len(data):
                return
            if data[begin + count : begin + count + 2] != b"\r\n":
                self.is_whole = True
                return
            self._in_chunks += count
            self._place = begin + count + 2
