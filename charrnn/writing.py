"""From checked requests to texts: which sample is drawn in which batch, with which random numbers.
The drawing itself is `charrnn.decoding`'s; what is shown of a text is `charrnn.texts`'s.

Sample i of a request has the same bits whatever the request's count and whatever else is being
written: its random numbers are a stream of its own, and its place in the request decides which
batch it joins. The first joins the one whose products take each row alone, which is fastest for one
text; the others the one whose products take several rows at once, which is fastest for many. All
join the second where the request's random seed says so (`Request.is_shared`: one that was drawn for
a request among many), and of a large network of which two rows take no longer than one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from charrnn.compiled import KEPT_LENGTH, CompiledModel, Position
from charrnn.decoding import DecodeBatch
from charrnn.panels import FOUR, TWELVE
from charrnn.products import BY_ROW
from charrnn.queues import Queue, Tries
from charrnn.selection import Selection
from charrnn.sequences import Arrival, Parked
from charrnn.streams import Streams
from charrnn.texts import Candidate, Language, Request, Text, Written

if TYPE_CHECKING:  # what few ask for is imported when it is asked for
    from charrnn.coldest import Searching
    from charrnn.drafting import Drafting

SLOTS = 64  # sequences of a batch
ALONE = 1  # samples of a request whose rows are multiplied alone
# Symbols at a time while others wait for a slot, and at first where a stop string may come.
REFILL_STEPS = 8
FEWEST_READ = 16  # symbols of long prompts that are read in a turn
MOST_TIMES = 50  # that a word of running text is drawn again, before the text ends


class Writer:
    """Writes the texts of requests, which join and leave between its turns. Belongs to one thread
    at a time.
    """

    def __init__(self, model: CompiledModel, language: Language) -> None:
        self._language, self._model = language, model
        self._alone = Queue(DecodeBatch(model, SLOTS, end=language.vocabulary.end))
        self._together: Queue | None = None  # made where it is needed
        self._drafting: Drafting | None = None  # likewise
        self._searching: Searching | None = None  # likewise
        self._over: list[int] = []  # requests that are finished, until they are taken
        self._shortfalls: dict[int, str] = {}  # theirs, likewise
        self._open: dict[int, _Joined] = {}
        self._streams = Streams()
        self._unread: deque[_Joined] = deque()  # whose prompts are not read to their ends
        self._selected: set[int] = set()  # requests whose selections have changed
        self._next, self._steps, self.made = 0, REFILL_STEPS, 0
        self._takes_turns = True

    @property
    def live(self) -> int:
        """Texts that are being drawn."""
        others = sum(each.live for each in (self._drafting, self._searching) if each)
        return others + sum(queue.batch.live for queue in self._queues())

    @property
    def waiting(self) -> int:
        """Texts that wait for a slot."""
        others = sum(each.waiting for each in (self._drafting, self._searching) if each)
        return others + sum(queue.waiting for queue in self._queues())

    @property
    def busy(self) -> bool:
        """Whether texts are still to be written."""
        return bool(self._open)

    def write(self, requests: Sequence[Request], steps: int) -> Iterator[Written]:
        """All texts of all requests, in turns of up to `steps` symbols; news bear a request's
        place. A writer that is left before the end is of no more use.
        """
        self.renew()
        self._takes_turns = False  # whoever waits for one of them waits for all
        for request in requests:
            self.join(request)
        while self._open:
            yield from self.turn(steps)

    def renew(self) -> None:
        """Forget what was written: numbers begin at 0 again. Nothing may be under way."""
        assert not self._open
        self._takes_turns = True
        self._next, self._over = 0, []
        self._shortfalls.clear()

    def placed(self, request: Request) -> Request:
        """The same request; one of a single text, whose random seed is ours to choose, as a four if
        that is what twelves leave over of all that is being written.
        """
        is_single = request.config.count == 1 and request.tries[0] and not request.searched
        if not (is_single and request.is_shared and self._model.has_use_for_fours):
            return request
        queue = self._many()
        texts = min(SLOTS, queue.batch.live + queue.waiting + 1)
        begun = [*queue.texts.values(), *(text for _, text in queue.returning)]
        waiting = [each for each in self._open.values() if each.waiting and not each.paused]
        fours = sum(text.as_fours for text in begun)
        fours += sum(joined.request.is_of_fours for joined in waiting)
        return request.as_fours() if fours < texts % TWELVE <= FOUR else request

    def join(self, request: Request) -> int:
        """Let a request's texts be written. Returns the number that its news bear."""
        number, count = self._next, request.config.count
        self._next += 1
        joined = self._open[number] = _Joined(request, count, count, count)
        if request.conditions and not request.searched:
            freely, by_drafts = request.tries
            tries = freely + by_drafts
            joined.selection = Selection(request.conditions, count, tries, freely)
        if len(request.prompt) > KEPT_LENGTH and (request.lookahead or not request.is_whole):
            joined.unread = request.prompt
            self._unread.append(joined)
        if request.searched:
            self._search().add(number, request)
            return number
        if not request.tries[0]:
            self._draft().add(number, request, [(index, 0) for index in range(count)])
            return number
        few = 0 if request.is_shared or self._model.begins_together else min(ALONE, count)
        if few < count and self._model.block == BY_ROW:  # no larger products are exact here
            few = count
        if few:
            self._alone.add(number, range(few))
        if few < count:
            self._many().add(number, range(few, count))
        if request.stop:
            self._steps = REFILL_STEPS
        return number

    def leave(self, number: int) -> None:
        """Write no more of a request, if it isn't finished; its slots are free at once."""
        self._drop(number)

    def end(self, number: int) -> list[Written]:
        """Write no more of a request: its texts end with what they have. Those that had not begun
        are left out, and of names that must meet conditions those that are not whole.
        """
        joined = self._open.get(number)
        if joined and joined.selection:
            self._drop(number)
            return [self._accepted(number, each) for each in joined.selection.take_held()]
        return [text.cut("time") for text in self._drop(number)]

    def take_over(self) -> list[int]:
        """The requests that have been finished since the last time, by their numbers."""
        over, self._over = self._over, []
        return over

    def take_shortfall(self, number: int) -> str | None:
        """Why a request that is over has fewer texts than it asked for; None where it has all."""
        return self._shortfalls.pop(number, None)

    def pause(self, number: int) -> None:
        """Let a request stand still until `resume`, in no other's way."""
        joined = self._open[number]
        if not joined.paused:
            joined.paused = True
            for queue in self._queues():
                joined.parked += [(queue, *parked) for parked in queue.park(number)]

    def resume(self, number: int) -> None:
        """Let a request go on, if it stands still."""
        joined = self._open[number]
        if joined.paused:
            joined.paused = False
            for queue, parked, text in joined.parked:
                queue.returning.append((parked, text))
            joined.parked = []

    def _drop(self, number: int) -> "list[Text]":
        """Forget a request. Returns its texts that had begun and not ended."""
        joined = self._open.pop(number, None)
        if joined and joined.unread:
            self._unread.remove(joined)
        texts = [text for _, _, text in joined.parked] if joined else []
        if self._drafting:
            self._streams.give_back(self._drafting.remove(number))
        if self._searching:
            self._searching.remove(number)
        for queue in self._queues():
            queue.remove(number)
            texts += [text for _, text in queue.park(number)]
        self._streams.give_back(text.rng for text in texts)
        return texts

    def turn(self, steps: int, goes_on: Callable[[], bool] = lambda: True) -> list[Written]:
        """Up to `steps` symbols of each text. Returns what is new: of each text at most once what
        was drawn; fewer steps while others wait for a slot, or a stop string may come, or where
        `goes_on`, asked after each step of several texts, is false. `made` is then how many symbols
        the longest stretch had.
        """
        news: list[Written] = []
        self.made = 0
        self._read(max(steps, FEWEST_READ))
        for queue in self._queues():
            if self._takes_turns:
                queue.make_room(self._is_held)
            queue.let_return()
            self._let_begin(queue, news)
        if any(joined.request.stop for joined in self._open.values()):
            self._steps = min(2 * self._steps, steps)
        else:
            self._steps = steps
        for queue in self._queues():
            most = min(REFILL_STEPS, steps) if queue.waiting else self._steps
            self._step(queue, most, goes_on, news)
        if self._drafting:
            self._turn_drafts(steps)
        if self._searching:
            self._turn_searches(steps, news)
        if self._selected:
            self._hand_out(news)
        return news

    def _step(
        self, queue: Queue, steps: int, goes_on: Callable[[], bool], news: list[Written]
    ) -> None:
        """Up to `steps` symbols of each text of a batch; adds what is new of them."""
        going_back = []
        stretches = queue.batch.step(steps, goes_on) if queue.batch.live else []
        self.made = max([self.made, *(len(stretch.ids) for stretch in stretches)])
        for stretch in stretches:
            text = queue.texts[stretch.slot]
            if text.is_hidden and stretch.finish_reason:
                del queue.texts[stretch.slot]
                self._streams.give_back([text.rng])
                self._offer(text.number, text.index, text.attempt, [text.last(stretch)])
                continue
            text.turn += len(stretch.ids)
            new = text.add(stretch)
            if text.goes_back:
                del queue.texts[stretch.slot]
                if stretch.finish_reason is None:
                    queue.batch.cancel(stretch.slot)
                going_back.append(text)
            if new is None:
                continue
            selected = text.request.conditions
            if not selected:
                news.append(new)
            if text.reason:
                del queue.texts[stretch.slot]
                self._streams.give_back([text.rng])
                if stretch.finish_reason is None:
                    queue.batch.cancel(stretch.slot)
                if selected:
                    self._offer(text.number, text.index, text.attempt, [text.candidate()])
                else:
                    self._finish(text.number, 1)
        for slot, text in queue.texts.items():
            if text.lacks_place():
                text.note(queue.batch.position(slot))
        for text in going_back:  # only now: a slot that is free again may have a stretch here
            news += self._go_back(queue, text)

    def _go_back(self, queue: Queue, text: Text) -> list[Written]:
        """Let a text that has come to a blocked word go on from before it, on other random numbers;
        one that would come to it again and again ends there.
        """
        config, joined = text.request.config, self._open[text.number]
        place, again, length = text.go_back()
        text.attempt += 1
        if config.temperature == 0 or config.top_k == 1 or text.times > MOST_TIMES:
            self._streams.give_back([text.rng])
            self._finish(text.number, 1)
            return [text.cut("stop")]
        self._streams.give_back([text.rng])
        text.rng = self._streams.take(joined.stream, text.index, text.attempt)
        request = text.request
        constraint = request.constraint if length == request.seed_length else None  # of the first
        room, fewest = request.max_length - length, max(config.min_length, 1) - length
        arrival = Arrival(config, text.rng, room, fewest, constraint, again)
        position = place or joined.position
        (slot,) = queue.batch.admit(position, [arrival], as_fours=text.as_fours)
        queue.texts[slot] = text
        return []

    def _turn_drafts(self, steps: int) -> None:
        """Up to `steps` symbols of each draft; and what has come of those that have ended."""
        drafting = self._drafting
        assert drafting
        for number, index, attempt in drafting.next(self._is_held):
            joined = self._open[number]
            self._prepare(joined)
            rng = self._streams.take(joined.stream, index, attempt)
            drafting.begin(number, index, attempt, joined.position, rng)
        ended_tries, made = drafting.step(steps)
        self.made = max(self.made, made)
        for ended in ended_tries:
            self._streams.give_back([ended.rng])
            text = self._open[ended.number].request.seed
            decode = self._language.vocabulary.decode
            drawn = [Candidate(text + decode(ids), lp, "end") for ids, lp in ended.names]
            self._offer(ended.number, ended.index, ended.attempt, drawn)

    def _turn_searches(self, steps: int, news: list[Written]) -> None:
        """Up to `steps` batches of a search at temperature 0; adds the names that are proven."""
        assert self._searching
        progress, made = self._searching.turn(steps, self._position_of)
        self.made = max(self.made, made)
        if progress is None:
            return
        number, names, is_over, why = progress
        joined = self._open[number]
        for name in names:
            index = joined.request.config.count - joined.unfinished
            joined.unfinished -= 1
            news.append(self._accepted(number, (index, name)))
        if is_over:
            if why:
                self._shortfalls[number] = why
            del self._open[number]
            self._over.append(number)

    def _position_of(self, number: int) -> Position | None:
        """Where the names of a request begin; None for one that stands still."""
        if self._is_held(number):
            return None
        self._prepare(self._open[number])
        position: Position = self._open[number].position
        return position

    def _offer(self, number: int, index: int, attempt: int, drawn: Sequence[Candidate]) -> None:
        """What a try of a sample came to; the tries that follow from that wait for their turn."""
        joined = self._open[number]
        assert joined.selection
        freely, tries = joined.request.tries[0], joined.selection.offer(index, attempt, drawn)
        joined.tries += len(tries) - 1
        if tries and tries[0][1] >= freely:
            self._draft().add(number, joined.request, tries)
        elif tries:
            by_row = self._model.block == BY_ROW
            (self._alone if by_row else self._many()).add_tries(number, tries)
        self._selected.add(number)

    def _hand_out(self, news: list[Written]) -> None:
        """Add the names that have become final to the news, and close the requests that are
        over.
        """
        for number in sorted(self._selected):
            joined = self._open[number]
            assert joined.selection
            news += [self._accepted(number, each) for each in joined.selection.take()]
            if joined.selection.is_over:
                why = joined.selection.shortfall(joined.request.config.temperature)
                if why:
                    self._shortfalls[number] = why
                if joined.tries:
                    self._drop(number)
                else:
                    del self._open[number]
                self._over.append(number)
        self._selected.clear()

    def _accepted(self, number: int, chosen: tuple[int, Candidate]) -> Written:
        """The only news of a name that meets its request's conditions."""
        index, name = chosen
        sample = self._language.sample(name.text, name.logprob, name.reason)
        return Written(number, index, "", name.text, sample)

    def _is_held(self, number: int) -> bool:
        joined = self._open[number]
        return joined.paused or bool(joined.unread)

    def _read(self, symbols: int) -> None:
        """Read on in long prompts, the oldest first, so many symbols in all: no text waits for the
        whole of another's prompt.
        """
        while symbols and self._unread:
            joined = self._unread[0]
            begin = joined.place
            end = min(begin + symbols, len(joined.unread) - 1)
            state = joined.position.state if joined.position else None
            joined.position = self._model.read(joined.unread[begin : end + 1], state)
            joined.place, symbols = end, symbols - (end - begin)
            if end == len(joined.unread) - 1:
                joined.unread = []
                self._unread.popleft()

    def _queues(self) -> list[Queue]:
        return [self._alone, self._together] if self._together else [self._alone]

    def _draft(self) -> "Drafting":
        """What draws names of a rare shape."""
        if self._drafting is None:
            from charrnn.drafting import Drafting

            self._drafting = Drafting(self._model, self._language.vocabulary.end)
        return self._drafting

    def _search(self) -> "Searching":
        """What finds names of a shape at temperature 0."""
        if self._searching is None:
            from charrnn.coldest import Searching

            self._searching = Searching(self._model, self._language)
        return self._searching

    def _many(self) -> Queue:
        """The queue of the batch whose rows share products."""
        if self._together is None:
            end, block = self._language.vocabulary.end, self._model.block
            self._together = Queue(DecodeBatch(self._model, SLOTS, end=end, block=block))
        return self._together

    def _finish(self, number: int, count: int) -> None:
        """So many more texts of a request are written."""
        joined = self._open[number]
        joined.unfinished -= count
        if not joined.unfinished:
            del self._open[number]
            self._over.append(number)

    def _prepare(self, joined: "_Joined") -> None:
        """Work out what all texts of a request begin with."""
        if joined.position is None:
            request = joined.request
            joined.position = request.position or self._model.read(request.prompt)
        if joined.stream is None:
            (joined.stream,) = self._streams.of([joined.request.random_seed])

    def _let_begin(self, queue: Queue, news: list[Written]) -> None:
        """Let samples that wait join a batch, as far as it has slots, those that begin alike in one
        go; adds what can be said of them at once.
        """
        alike: dict[tuple[int, bool], tuple[Position, list[Text], list[Arrival]]] = {}
        begins = list(queue.next(self._is_held))
        new = [each for number, _ in begins if (each := self._open[number]).stream is None]
        streams = self._streams.of([joined.request.random_seed for joined in new])
        for joined, stream in zip(new, streams, strict=True):
            joined.stream = stream
        for number, tries in begins:
            joined = self._open[number]
            request, room = joined.request, joined.request.max_length - joined.request.seed_length
            if request.lookahead:  # only the end symbol makes a name whole, behind the last letter
                room += 1
            if not room:
                self._begin_whole(joined, number, tries, news)
                continue
            self._prepare(joined)
            least = 0 if request.lookahead else request.config.min_length
            fewest = max(least, 1) - request.seed_length  # no name is empty
            for index, attempt in tries:
                text = Text(self._language, number, index, request, attempt)
                text.rng = self._streams.take(joined.stream, index, attempt)
                key = id(joined.position), text.as_fours
                _, texts, arrivals = alike.setdefault(key, (joined.position, [], []))
                texts.append(text)
                arrival = Arrival(request.config, text.rng, room, fewest, request.constraint)
                arrivals.append(arrival)
                if request.seed and not joined.selection:
                    news.append(text.opening())
            joined.waiting -= len(tries)
            if not (joined.waiting or joined.selection or request.blocklist):  # no more tries
                joined.position = joined.stream = None
        for (_, as_fours), (position, texts, arrivals) in alike.items():
            slots = queue.batch.admit(position, arrivals, as_fours=as_fours)
            queue.texts.update(zip(slots, texts, strict=True))

    def _begin_whole(
        self, joined: "_Joined", number: int, tries: Tries, news: list[Written]
    ) -> None:
        """Let samples end that have no room behind their seed."""
        seed = joined.request.seed
        if joined.selection:
            for index, attempt in tries:
                self._offer(number, index, attempt, [Candidate(seed, 0.0, "length")])
            return
        whole = self._language.sample(seed, 0.0, "length")
        news += [Written(number, index, "", seed, whole) for index, _ in tries]
        self._finish(number, len(tries))


@dataclass(eq=False)
class _Joined:
    """A request that is being written: how many of its texts have not begun and not ended, how many
    tries wait or are being drawn, and what they all begin with, from the first to the last of them:
    a position, and a stream of random numbers.
    """

    request: Request
    waiting: int
    unfinished: int
    tries: int
    position: Any = None  # a Position, where it is known
    stream: Any = None
    selection: Selection | None = None
    unread: list[int] = field(default_factory=list)  # a long prompt, until it is read to its end
    place: int = 0  # where the position stands in it
    paused: bool = False
    parked: list[tuple[Queue, Parked, Text]] = field(default_factory=list)
