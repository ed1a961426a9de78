"""The answers of OpenAI's interface: completions and chats, whole and in chunks.

A form is a request that was read, with what it asks of the library; it makes an answer of what the
engine has written. Characters are the tokens here.
"""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import charrnn
from api.batch import Ticket
from api.desk import Desk
from api.errors import RequestError
from api.generate import shortfall_of, within_limits
from api.openai_errors import NO_MODEL
from api.openai_schemas import ChatRequest, CompletionRequest, OpenAIRequest
from charrnn.config import AS_DRAWN, CHAT_TEMPERATURE, FIRST_SHARED_SEED, LONGEST_REPLY
from charrnn.errors import ConfigError, FieldProblem

REASONS = {"length": "length", "time": "length"}  # all others are a stop
Choice = dict[str, Any]


def generator_of(desk: Desk, name: str) -> charrnn.Generator:
    """The live version of a model. Raises RequestError 404, as these clients know it."""
    try:
        return desk.models.get(name)
    except RequestError as error:
        error.members["code"] = NO_MODEL
        raise


class Form(ABC):
    """A request, and how its answer is put together."""

    stem: ClassVar[str]  # of ids
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    echoes: bool = False  # whether texts begin with their prompts

    def __init__(self, asked: OpenAIRequest, desk: Desk) -> None:
        """Raises ConfigError, UnknownCharacterError and RequestError."""
        self.asked, self._settings = asked, desk.settings
        self.generator = generator_of(desk, asked.model)
        if self.wants_logprobs and self.generator.vocabulary.unit != "character":
            rule = "must be left out: this model writes words, and only characters have them here"
            raise ConfigError([FieldProblem("logprobs", rule, "them")])
        self.requests = self.read(desk)
        self._id, self._made_at = secrets.token_hex(12), int(time.time())

    @abstractmethod
    def read(self, desk: Desk) -> list[charrnn.Request]:
        """What is asked of the library: a request for each prompt."""

    @abstractmethod
    def members(self, text: str) -> Choice:
        """A whole text, as a choice has it."""

    @abstractmethod
    def piece(self, text: str) -> Choice:
        """A piece of one, likewise; an empty one where it ends."""

    @abstractmethod
    def logprobs(self, spelled: "list[Spelled]", offset: int) -> Choice:
        """How likely characters were, which stand so far into a text."""

    def opening(self) -> Choice | None:
        """What stands in a chunk of its own before each text."""
        return None

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are asked for; with no alternatives, too."""
        asked = getattr(self.asked, "logprobs", None)
        return asked is not None and asked is not False

    @property
    def likeliest(self) -> int:
        """How many alternatives of each character are asked for."""
        return int(getattr(self.asked, "logprobs", None) or 0)

    def head(self, kind: str, tickets: Sequence[Ticket]) -> dict[str, Any]:
        """What an answer and each chunk begin with. The random seed is that of the tickets: the
        engine may have given one that was drawn another form.
        """
        return {
            "id": f"{self.stem}-{self._id}",
            "object": kind,
            "created": self._made_at,
            "model": self.generator.name,
            "system_fingerprint": f"fp_{self.generator.version}",
            "random_seed": tickets[0].request.random_seed,
            "shortfall": None,
        }

    def whole(self, tickets: Sequence[Ticket]) -> dict[str, Any]:
        """The answer, once all texts are there. One that could not be found, or had not begun in
        time, has nothing but its prompt.
        """
        choices: list[Choice] = []
        whys = [why for ticket in tickets if (why := self.shortfall(ticket))]
        for ticket in tickets:
            for index in range(ticket.request.config.count):
                sample = ticket.samples.get(index)
                text = sample.text if sample else self.echoed(ticket)
                hidden = 0 if self.echoes else len(ticket.request.seed)
                reason = REASONS.get(sample.finish_reason, "stop") if sample else "length"
                logprobs = None
                if self.wants_logprobs:
                    speller = Spelling(self, ticket)
                    logprobs = self.logprobs(speller.read(self._raw(text)[hidden:]), 0)
                choice = {**self.members(text[hidden:]), "logprobs": logprobs}
                choices.append({"index": len(choices), **choice, "finish_reason": reason})
        more = {"choices": choices, "usage": self.usage(tickets)}
        return {**self.head(self.kind, tickets), "shortfall": "; ".join(whys) or None, **more}

    def shortfall(self, ticket: Ticket) -> str | None:
        """Why there are fewer texts for a prompt than were asked for."""
        return shortfall_of(ticket, self._settings)

    def echoed(self, ticket: Ticket) -> str:
        """What a text has before anything is drawn."""
        return self.generator.vocabulary.write(ticket.request.seed) if self.echoes else ""

    def _raw(self, text: str) -> str:
        """A text as the model reads it."""
        return self.generator.vocabulary.match(text)

    def usage(self, tickets: Sequence[Ticket]) -> dict[str, int]:
        """What was read and drawn, in the model's symbols."""
        read = sum(len(ticket.request.prompt) - 1 for ticket in tickets)
        drawn = sum(
            max(0, self.generator.length(sample.text) - ticket.request.seed_length)
            for ticket in tickets
            for sample in ticket.samples.values()
        )
        return {"prompt_tokens": read, "completion_tokens": drawn, "total_tokens": read + drawn}


Spelled = tuple[str, float | None, list[tuple[str, float]]]  # as written; None: nobody can tell


class Spelling:
    """The log-probabilities of a text's characters, in the order in which they come."""

    def __init__(self, form: Form, ticket: Ticket) -> None:
        self._likeliest = form.likeliest
        self._speller = ticket.generator.speller(ticket.request, from_start=form.echoes)
        self._is_first = form.echoes  # what nothing stands before has none, as OpenAI has it

    def read(self, characters: str) -> list[Spelled]:
        """The next characters, as the model reads them."""
        found: list[Spelled] = []
        for each in self._speller.read(characters, self._likeliest):
            logprob = None if self._is_first else each.logprob
            found.append((each.symbol, logprob, list(each.likeliest)))
            self._is_first = False
        return found


class Pieces:
    """The choices of a ticket's chunks, from its news."""

    def __init__(self, form: Form, ticket: Ticket, number: int) -> None:
        """number: which of the request's tickets it is."""
        self._form, self._ticket = form, ticket
        self._first = number * ticket.request.config.count
        self._seen: dict[int, int] = {}  # characters of each text, its prompt's too
        self._spelling: dict[int, Spelling] = {}
        self._unfinished = dict.fromkeys(range(ticket.request.config.count))

    def openings(self) -> Iterator[Choice]:
        """What stands before each text, where there is something."""
        members = self._form.opening()
        for index in self._unfinished if members else ():
            yield self._choice(index, members or {})

    def choices(self, news: charrnn.Written) -> Iterator[Choice]:
        """What is new of a text, and its end where it has come."""
        index, form, prompt = news.sample_index, self._form, len(self._ticket.request.seed)
        written = self._ticket.generator.piece(news).text
        seen = self._seen.get(index, 0)
        self._seen[index] = seen + len(written)
        hidden = 0 if form.echoes else max(0, prompt - seen)
        if text := written[hidden:]:
            logprobs = None
            if form.wants_logprobs:
                if index not in self._spelling:
                    self._spelling[index] = Spelling(form, self._ticket)
                spelled = self._spelling[index].read(news.characters[hidden:])
                logprobs = form.logprobs(spelled, seen + hidden - (0 if form.echoes else prompt))
            yield self._choice(index, form.piece(text), logprobs)
        if news.sample:
            del self._unfinished[index]
            reason = REASONS.get(news.sample.finish_reason, "stop")
            yield self._choice(index, form.piece(""), reason=reason)

    def missing(self) -> Iterator[Choice]:
        """The ends of texts that could not be found, or had not begun when the time was over."""
        form, logprobs = self._form, None
        text = form.echoed(self._ticket)
        for index in self._unfinished:
            if form.wants_logprobs and text:
                spelled = Spelling(form, self._ticket).read(self._ticket.request.seed)
                logprobs = form.logprobs(spelled, 0)
            yield self._choice(index, form.piece(text), logprobs, reason="length")

    def _choice(
        self,
        index: int,
        members: Mapping[str, Any],
        logprobs: Choice | None = None,
        reason: str | None = None,
    ) -> Choice:
        place = {"index": self._first + index}
        return {**place, **members, "logprobs": logprobs, "finish_reason": reason}


class Completion(Form):
    """POST /v1/completions."""

    stem, kind, chunk_kind = "cmpl", "text_completion", "text_completion"
    asked: CompletionRequest

    def read(self, desk: Desk) -> list[charrnn.Request]:
        asked, generator, settings = self.asked, self.generator, desk.settings
        self.echoes = asked.echo
        # Several prompts have one seed; that of a single one is the library's to draw.
        several = len(asked.prompt) > 1
        random_seed = secrets.randbelow(FIRST_SHARED_SEED) if several else None
        requests = []
        for prompt in asked.prompt:
            if asked.max_tokens is None:
                config = asked.generation(random_seed=random_seed)
            else:  # which cuts
                most = max(1, generator.length(prompt) + asked.max_tokens)
                config = asked.generation(most, random_seed=random_seed, whole=False)
            if asked.max_tokens == 0:  # nothing is drawn that could be refused
                config = config.changed(**AS_DRAWN)
            config = within_limits(config, prompt, generator, settings, "prompt")
            made = generator.request(prompt, config)
            if asked.max_tokens == 0:  # nor after an empty prompt
                made = made._replace(max_length=made.seed_length)
            requests.append(made)
        _check_sum(requests, settings.max_count, settings.max_characters)
        return requests

    def members(self, text: str) -> Choice:
        return {"text": text}

    def piece(self, text: str) -> Choice:
        return {"text": text}

    def logprobs(self, spelled: list[Spelled], offset: int) -> Choice:
        tops = [None if lp is None else dict(others) for _, lp, others in spelled]
        return {
            "tokens": [shown for shown, _, _ in spelled],
            "token_logprobs": [logprob for _, logprob, _ in spelled],
            "top_logprobs": tops if self.likeliest else None,
            "text_offset": list(range(offset, offset + len(spelled))),
        }


class ChatCompletion(Form):
    """POST /v1/chat/completions."""

    stem, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"
    asked: ChatRequest

    def read(self, desk: Desk) -> list[charrnn.Request]:
        asked, settings = self.asked, desk.settings
        own = min(LONGEST_REPLY, settings.max_length, settings.max_characters)
        config = asked.generation(asked.longest, temperature=CHAT_TEMPERATURE, max_length=own)
        config = within_limits(config, "", self.generator, settings)
        return [self.generator.reply_request(*asked.turns(), config)]

    @property
    def likeliest(self) -> int:
        return self.asked.top_logprobs or 0

    def opening(self) -> Choice:
        return {"delta": {"role": "assistant", "content": "", "refusal": None}}

    def members(self, text: str) -> Choice:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def piece(self, text: str) -> Choice:
        return {"delta": {"content": text} if text else {}}

    def logprobs(self, spelled: list[Spelled], offset: int) -> Choice:
        return {"content": [_token(*each) for each in spelled], "refusal": None}


def _token(shown: str, logprob: float | None, others: list[tuple[str, float]]) -> Choice:
    def described(text: str, value: float) -> Choice:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    tops = [described(*other) for other in others]
    return {**described(shown, logprob or 0.0), "top_logprobs": tops}


def _check_sum(requests: Sequence[charrnn.Request], most: int, characters: int) -> None:
    """Raises ConfigError where prompts ask for more together than one request may."""
    texts = sum(each.config.count for each in requests)
    if texts > most:
        rule = f"times n must be at most {most} texts"
        raise ConfigError([FieldProblem("prompt", rule, str(texts))])
    longest = sum(each.config.count * each.max_length for each in requests)
    if len(requests) > 1 and longest > characters:
        rule = f"with all their texts must be at most {characters} characters"
        raise ConfigError([FieldProblem("prompt", rule, str(longest))])
