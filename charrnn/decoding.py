"""The one decoding loop: many sequences, stepped together, joining and leaving between runs.

Each sequence has its own settings, random numbers and constraint. Its result depends, bit for bit,
on these, on where it starts and on how the batch multiplies its rows: not on what shares the batch,
nor on its slot (`charrnn.compiled` says why).
"""

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from charrnn.compiled import Beginning, CompiledModel, Lanes, Position
from charrnn.parameters import Array
from charrnn.products import BY_ROW, Block
from charrnn.runs import FinishReason, Run, Stretch
from charrnn.sampling import scaled_noise
from charrnn.sequences import Arrival, DrawnSequence, Group, Parked, chooser

FIRST_STEPS = 16  # of noise, for a sequence that has just joined: many are short
MOST_STEPS = 256  # of a run, and of noise later on; fewer for many sequences of a large vocabulary:
RUN_NUMBERS = 1 << 17  # memory grows with none of them
# Rows that have ended go on until they have cost as much as closing up does: in bytes of matrices
# read; what is done element by element costs a row as much as so many more.
IDLE_BYTES, ROW_BYTES = 1 << 25, 5 << 17


class DecodeBatch:
    """Up to `slots` sequences of one model, stepped together. Belongs to one thread at a time."""

    def __init__(
        self,
        model: CompiledModel,
        slots: int,
        *,
        end: int | None = None,
        block: Block = BY_ROW,
        most_steps: int = MOST_STEPS,
    ) -> None:
        """`end` is the symbol that ends a sequence; None for one that never does. `block`: how rows
        are multiplied, alone or as `model.block` says. `most_steps`: of a run.
        """
        vocab, dtype = model.config.vocab_size, model.table.dtype
        self.model, self.end = model, end
        self.most_steps = max(1, min(most_steps, RUN_NUMBERS // vocab))
        self._lanes = Lanes(model, slots, block)
        self._solo = Lanes(model, 1) if block == BY_ROW else None  # for the last one left
        self._most_idle = IDLE_BYTES // (model.matrix_bytes + ROW_BYTES)  # rows, all steps together
        self._has_fours = block.has_fours
        self._live: list[DrawnSequence] = []  # in the order of their lanes, fours behind the others
        self._fours = 0
        self._free = list(range(slots))[::-1]
        self._grouped = 0  # sequences in groups
        self._beginning: Beginning | None = None  # of all, which have drawn nothing yet
        self._idle_rng = np.random.Generator(np.random.PCG64(0))  # of those: a group draws itself
        # By lane: the symbol that is read next, how many were drawn (below 0, of those that are
        # drawn again), how many may be, how many must be before the end, the next row of the noise
        # (at the end of the rows, more is drawn), and the slot.
        self._numbers = np.zeros((6, slots), int)
        self._ids, self._made, self._limits, self._fewest, self._places, self._slot = self._numbers
        self._noise = np.zeros((slots, self.most_steps, vocab), dtype)
        self._scores = np.zeros((slots, vocab), dtype)
        self._run = Run(self.most_steps, slots, model.out_bias)

    @property
    def live(self) -> int:
        """Sequences at work."""
        return len(self._live)

    @property
    def free(self) -> int:
        """Slots to be had."""
        return len(self._free)

    def admit(
        self, position: Position, arrivals: Sequence[Arrival], *, as_fours: bool = False
    ) -> list[int]:
        """Let sequences join that begin alike; they draw their first symbols in the next step.

        Args:
            position: what they read first, and their state before that (`CompiledModel.read`).
            arrivals: how each is drawn.
            as_fours: whether their rows are multiplied as fours, where the block has them: other
                last bits, and always the same.

        Returns:
            Their slots, each of which names a sequence until it finishes or is cancelled.
        """
        slots, as_fours = self._take(len(arrivals)), as_fours and self._has_fours
        sequences = []
        for slot, (config, rng, limit, _, constraint, again) in zip(slots, arrivals, strict=True):
            assert limit >= 1
            q = constraint.start() if constraint else None
            sequences.append(DrawnSequence(slot, config, rng, constraint, q, as_fours, again=again))
        made = [-len(one.again) for one in arrivals]
        fewest = [one.fewest if self.end is not None else 0 for one in arrivals]
        beginning = None
        if not (self._live or as_fours):
            beginning = self.model.beginning(position, self._lanes.block)
        self._join(sequences, position, made, [one.limit for one in arrivals], fewest)
        self._beginning = beginning
        return slots

    def admit_group(self, position: Position, group: Group) -> list[int]:
        """Let a group join, all of it from one position. Nothing of what it draws is in a stretch;
        a sequence that ends leaves, and so its slot is free.
        """
        slots = self._take(group.size)
        sequences = [
            DrawnSequence(slot, group.config, self._idle_rng, None, None, group=group, place=place)
            for place, slot in enumerate(slots)
        ]
        lanes = self._join(sequences, position, 0, sys.maxsize, 0)
        self._slot[lanes] = -1
        self._grouped += len(slots)
        return slots

    def step(self, n: int = 1, goes_on: Callable[[], bool] = lambda: True) -> list[Stretch]:
        """Advance every sequence by `n` symbols; those that finish leave. Returns what was drawn,
        one stretch for each sequence in the order of slots; fewer symbols where the end came, or
        where so many sequences have no room for more, or where `goes_on`, asked after each step of
        several sequences, is false.
        """
        assert n >= 1
        if not self._live:
            return []
        steps = min(n, self._room())
        self._run.begin(steps)
        if self._solo and len(self._live) == 1 and not self._grouped:
            return [self._draw_alone(self._solo, steps)]
        count, made = len(self._live), 0
        left: dict[int, FinishReason] = {}
        while made < steps and self._live and (not made or goes_on()):
            made += self._draw(made, steps, goes_on)
            left |= self._let_go()
        self._free += left
        return self._run.stretches(steps, count, left)

    def state(self, slot: int) -> Array:
        """A copy of a sequence's state, (L, S, H), after all that it has read."""
        return self.position(slot).state

    def position(self, slot: int) -> Position:
        """Where a sequence stands: another may be admitted from there."""
        lane = self._lane(slot)
        return self._lanes.position(lane, int(self._ids[lane]))

    def fork(self, slot: int, rng: np.random.Generator) -> int:
        """A second sequence that goes on from where this one is, with random numbers of its own."""
        lane = self._lane(slot)
        origin = self._live[lane]
        (new_slot,) = self._take(1)
        copy = replace(origin, slot=new_slot, rng=rng)
        made, limit, fewest = self._made[lane], self._limits[lane], self._fewest[lane]
        self._join([copy], self.position(slot), made, limit, fewest)
        return new_slot

    def _room(self) -> int:
        """The steps whose noise and logits are held at a time, for as many as are live."""
        vocab = len(self.model.out_bias)
        return max(1, min(self.most_steps, RUN_NUMBERS // (vocab * len(self._live))))

    def cancel(self, slot: int) -> None:
        """Let a sequence leave; its slot is free at once."""
        lane = self._lane(slot)
        self._grouped -= self._live[lane].group is not None
        self._remove(np.array([lane]))
        self._free.append(slot)

    def cancel_group(self, group: Group) -> None:
        """Let a group leave, as far as it is still there."""
        for slot in [one.slot for one in self._live if one.group is group]:
            self.cancel(slot)

    def park(self, slot: int) -> Parked:
        """Let a sequence leave for `unpark`; its slot is free at once."""
        lane = self._lane(slot)
        parked = Parked(
            self._live[lane],
            self.position(slot),
            self._numbers[:, lane].copy(),
            self._noise[lane, self._places[lane] :].copy(),
        )
        self.cancel(slot)
        return parked

    def unpark(self, parked: Parked) -> int:
        """Let a sequence go on, to the same symbols as if it had never left. Returns its slot."""
        (slot,) = self._take(1)
        sequence = replace(parked.sequence, slot=slot)
        lane = self._join([sequence], parked.position, 0, 0, 0).start
        self._numbers[:, lane] = parked.numbers
        self._slot[lane] = slot
        self._noise[lane, self._places[lane] :] = parked.noise
        return slot

    def _take(self, count: int) -> list[int]:
        """Free slots, the lowest first where none has been used yet."""
        if count > len(self._free):
            raise IndexError(f"{count} slots asked for, {len(self._free)} are free")
        return [self._free.pop() for _ in range(count)]

    def _join(
        self,
        sequences: list[DrawnSequence],
        position: Position,
        made: int | list[int],
        limit: int | list[int],
        fewest: int | list[int],
    ) -> slice:
        """Let sequences join that are all fours, or all not. Returns their lanes: the first fours
        make room for others at the end.
        """
        begin, new, behind, self._beginning = len(self._live), len(sequences), 0, None
        if sequences and sequences[0].as_fours:
            self._fours += new
        elif self._fours:
            begin, behind = begin - self._fours, min(new, self._fours)
        lanes = slice(begin, begin + new)
        self._live += sequences
        if behind:
            sources = np.arange(begin, begin + behind)
            self._move(sources, sources + max(new, self._fours))
            self._live[lanes] = sequences
        self._lanes.put(lanes, position)
        self._ids[lanes], self._made[lanes], self._limits[lanes] = position.id, made, limit
        self._fewest[lanes], self._places[lanes] = fewest, self.most_steps
        self._slot[lanes] = [sequence.slot for sequence in sequences]
        return lanes

    def _lane(self, slot: int) -> int:
        for lane, sequence in enumerate(self._live):
            if sequence.slot == slot:
                return lane
        raise KeyError(f"slot {slot} is not in use")

    def _remove(self, lanes: Array) -> None:
        """The last lanes take the places of those that leave, and the last fours those of the last
        others. Their slots stay taken.

        Args:
            lanes: rising.
        """
        count, border = len(self._live) - len(lanes), len(self._live) - self._fours
        self._fours -= int(np.count_nonzero(lanes >= border))
        stays = np.ones(len(self._live), bool)
        stays[lanes] = False
        self._fill(stays, range(border), count - self._fours)
        if self._fours:
            stays[: count - self._fours] = True
            stays[count - self._fours : border] = False  # what stood there stands before it now
            self._fill(stays, range(border, len(self._live)), count)
        del self._live[count:]

    def _fill(self, stays: Array, some: range, end: int) -> None:
        """Let those of some lanes that stay and are at `end` or behind it take the places before it
        where nobody stays.
        """
        targets = (~stays[:end]).nonzero()[0]
        if len(targets):
            behind = max(end, some.start)
            self._move(stays[behind : some.stop].nonzero()[0] + behind, targets)

    def _move(self, sources: Array, targets: Array) -> None:
        """Let the sequences of some lanes stand in others."""
        self._lanes.move(sources, targets)
        self._numbers[:, targets] = self._numbers[:, sources]
        place = self._places[targets].min()
        self._noise[targets, place:] = self._noise[sources, place:]
        for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
            self._live[target] = self._live[source]

    def _refill(self, count: int) -> None:
        """Draw noise for each of the first lanes that has none left, and forbid ends that are too
        early; what is to be drawn again is the only symbol that may be.
        """
        empty = (self._places[:count] == self.most_steps).nonzero()[0]
        if not len(empty):
            return
        made = self._made[empty].tolist()
        steps = min(max(FIRST_STEPS, *map(abs, made)), self._room())
        place = self.most_steps - steps
        if self._grouped == count:  # groups draw themselves
            self._places[empty] = place
            return
        sequences = [self._live[lane] for lane in empty.tolist()]
        whole = len(empty) == count
        noise = self._noise[:count, place:] if whole else self._noise[empty, place:]
        repeats = [len(one.again[:steps]) for one in sequences]
        scaled_noise(
            [one.rng for one in sequences],
            [one.config.temperature for one in sequences],
            self.model.drawn_bias,
            noise,
            repeats if any(repeats) else None,
        )
        early = [max(0, n) for n in map(operator.sub, self._fewest[empty].tolist(), made)]
        if self.end is not None and early.count(early[0]) == len(early):  # in one go
            noise[:, : early[0], self.end] = -np.inf
        elif self.end is not None:
            for rows, steps_before in zip(noise, early, strict=True):
                rows[:steps_before, self.end] = -np.inf
        for row, one in enumerate(sequences if any(repeats) else ()):
            ids, one.again = one.again[:steps], one.again[steps:]
            noise[row, : len(ids)] = -np.inf
            noise[row, range(len(ids)), ids] = 0.0
        if not whole:
            self._noise[empty, place:] = noise
        self._places[empty] = place

    def _draw_alone(self, solo: Lanes, steps: int) -> Stretch:
        """A run of the only sequence, until it has made `steps` or ends: the same bits, in fewer
        calls, over arrays of its own.
        """
        below, top, multiply, logits = solo.alone
        add, scores, end, id_ = np.add, self._scores[0], self.end, int(self._ids[0])
        argmax: Callable[[], Any] = scores.argmax
        if self._live[0].limited:
            choose = chooser(self._live, self.model.drawn_bias)
            row, score_row = logits[None], scores[None]
            argmax = lambda: choose(row, score_row)[0]  # noqa: E731
        ids: list[int] = []
        steps = min(steps, int(self._limits[0] - self._made[0]))
        kept = iter(self._run.logits[:steps, 0])
        reads = self._looked_up(steps, solo, 0)  # both are called: only an end stops this before
        if not reads:
            self._lanes.hand(0, solo, 0)
        while len(ids) < steps and (id_ != end or not ids):
            self._refill(1)
            place, before = int(self._places[0]), len(ids)
            for noise in self._noise[0, place : place + steps - before]:
                if reads:
                    logits[:] = reads.pop()(id_)
                else:
                    top(below(id_))
                    multiply()
                next(kept)[:] = logits
                add(logits, noise, scores)
                id_ = int(argmax())
                ids.append(id_)
                if id_ == end:
                    break
            self._places[0] += len(ids) - before
            self._made[0] += len(ids) - before
        slot = self._live[0].slot
        self._run.note(0, self._slot[:1], None, len(ids))
        reason: FinishReason | None = None
        if id_ == end or self._made[0] == self._limits[0]:
            reason = "end" if id_ == end else "length"
            self._live.clear()
            self._free.append(slot)
        else:
            self._ids[0] = id_
            solo.hand(0, self._lanes, 0)
        logprobs = self._run.logprobs(self._run.logits[: len(ids), 0].copy(), np.array(ids))
        return Stretch(slot, ids, logprobs, reason)

    def _draw(self, made: int, steps: int, goes_on: Callable[[], bool]) -> int:
        """Step all lanes, from step `made` of the run to `steps` at most, or until one of them has
        no noise left, or those that have ended cost more than it takes to close up, or `goes_on` is
        false. Returns how many steps that were.
        """
        count, lanes, end = len(self._live), np.arange(len(self._live)), self.end
        self._refill(count)
        places = self._places[:count]
        left = int((self._limits[:count] - self._made[:count]).min())
        steps = min(steps - made, self.most_steps - int(places.max()), left)
        read, most_idle = self._lanes.bound(count, self._fours).read, self._most_idle
        choose, limited = None, []
        groups: list[tuple[Group, Array]] = []
        if self._grouped:
            groups, most_idle = self._groups(), 0
        if any(sequence.limited for sequence in self._live):
            limited = [lane for lane, sequence in enumerate(self._live) if sequence.limited]
            choose = chooser([self._live[lane] for lane in limited], self.model.drawn_bias)
            most_idle = 0  # a constraint knows nothing of what would come after the end
        ids, scores, noise = self._ids[:count], self._scores[:count], self._noise[:count]
        run, reads = self._run, self._looked_up(steps, self._lanes, slice(count))
        drawn, kept = run.drawn[made : made + steps, :count], run.logits[made:, :count]
        in_step, first = bool((places == places[0]).all()), int(places[0])
        ended, idle, done = np.zeros(count, bool), 0, 0
        while done < steps and idle <= most_idle and (not done or goes_on()):
            logits = reads.pop()(ids) if reads else read(ids)
            kept[done] = logits
            if self._grouped == count:
                ids = drawn[done]
            else:
                here = noise[:, first + done] if in_step else noise[lanes, places + done]
                np.add(logits, here, scores)
                ids = scores.argmax(1, drawn[done])
            if choose:
                ids[limited] = choose(logits[limited], scores[limited])
            for group, members in groups:
                copy = partial(self._copy, members)
                ids[members] = group.draw(logits[members] + self.model.out_bias, copy)
            done += 1
            if end is not None:
                ended |= ids == end
                over = int(np.count_nonzero(ended))
                idle += over if over < count else sys.maxsize
        if reads and not ended.all():  # stopped before the lanes were filled: they read it now
            read(self._ids[:count])
        self._note(made, drawn[:done], ended)
        return done

    def _looked_up(
        self, steps: int, lanes: Lanes, where: slice | int
    ) -> list[Callable[[Any], Array]]:
        """What reads the next two symbols of all sequences, for `pop`, where nothing has been drawn
        and all begin alike. To be asked for once, before a run.
        """
        beginning, self._beginning = self._beginning, None
        return beginning.reads(lanes, where) if beginning and steps > 1 else []

    def _note(self, made: int, drawn: Array, ended: Array) -> None:
        """Write down what the lanes drew from step `made` of a run on, up to their ends: (T, B),
        and whether there is an end for each, (B,).
        """
        done, count = drawn.shape
        self._ids[:count], lengths = drawn[-1], None
        if ended.any():
            self._ids[:count][ended] = self.end
            lengths = np.where(ended, (drawn == self.end).argmax(0) + 1, done)
        self._made[:count] += done if lengths is None else lengths
        self._places[:count] += done
        self._run.note(made, self._slot[:count], lengths, done)

    def _groups(self) -> list[tuple[Group, Array]]:
        """Each group with the lanes of its sequences, in their order."""
        lanes: dict[int, list[tuple[int, int]]] = {}
        for lane, sequence in enumerate(self._live):
            if sequence.group is not None:
                lanes.setdefault(id(sequence.group), []).append((sequence.place, lane))
        ordered = [np.array([lane for _, lane in sorted(each)]) for each in lanes.values()]
        groups = [self._live[each[0]].group for each in ordered]
        return [(group, each) for group, each in zip(groups, ordered, strict=True) if group]

    def _copy(self, members: Array, sources: Array, targets: Array) -> None:
        """Let some of a group's lanes stand where others of it do."""
        self._lanes.move(members[sources], members[targets])

    def _let_go(self) -> dict[int, FinishReason]:
        """Let those leave that have drawn their end, or all that they may. Returns why, by slot;
        the slots stay taken.
        """
        count = len(self._live)
        over = self._made[:count] == self._limits[:count]
        if self.end is not None:
            over |= self._ids[:count] == self.end
        lanes = over.nonzero()[0]
        if not len(lanes):
            return {}
        ended = (self._ids[lanes] == self.end).tolist() if self.end is not None else [False] * count
        reasons: dict[int, FinishReason] = {
            self._live[lane].slot: "end" if end else "length"
            for lane, end in zip(lanes.tolist(), ended, strict=False)
        }
        if self._grouped:
            self._grouped -= sum(self._live[lane].group is not None for lane in lanes.tolist())
        self._remove(lanes)
        return reasons
