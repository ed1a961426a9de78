"""What a request to OpenAI's interface may say, and what of it is refused or ignored.

Fields that the library has too go through as they are: a setting that is added to GenerationConfig
is a field here as well. docs/openai.md has the table.
"""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from api.openai_errors import UNSUPPORTED
from api.settings import ServiceSettings
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown
from charrnn.settings import setting

MOST_TOP_LOGPROBS = 20
MOST_STOPS: int = GenerationConfig.fields()["stop"].rules["max_length"]
LONGEST_STOP: int = GenerationConfig.fields()["stop"].items["max_length"]
MOST_MESSAGES = 2_000
ASSISTANT = "assistant"
ROLES = ("system", "developer", "user", ASSISTANT)
SMALLEST_TOP_P = 1e-9  # what a top_p of 0 means: the likeliest alone
# What can't be had here, with the values that ask for nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}
# What makes no difference to the texts.
IGNORED = frozenset(
    {
        "metadata",
        "moderation",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)

R = TypeVar("R", bound="OpenAIRequest")


def _stops(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and len(texts) <= MOST_STOPS:
        sizes = [len(each) if isinstance(each, str) else 0 for each in texts]
        if all(1 <= size <= LONGEST_STOP for size in sizes):
            return tuple(texts)
    raise ValueError(
        f"must be text, or a list of at most {MOST_STOPS}, of 1 to {LONGEST_STOP} characters each"
    )


def _stream_options(value: Any) -> dict[str, bool]:
    known = {"include_usage", "include_obfuscation"}
    plain = isinstance(value, dict) and set(value) <= known
    if plain and all(isinstance(each, bool) for each in value.values()):
        return dict(value)
    raise ValueError('must be an object such as {"include_usage": true}')


def _prompts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and texts and all(isinstance(each, str) for each in texts):
        return texts
    raise ValueError("must be text, or a list of texts; lists of token numbers are not read here")


def _messages(value: Any) -> list[tuple[str, str]]:
    """(role, text) of each message."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_MESSAGES:
        raise ValueError(f"must be a list of 1 to {MOST_MESSAGES} messages")
    return [_message(each, number) for number, each in enumerate(value)]


def _message(value: Any, number: int) -> tuple[str, str]:
    role = value.get("role") if isinstance(value, dict) else None
    if role not in ROLES:
        raise ValueError(f"[{number}].role must be one of {', '.join(ROLES)}")
    content = value.get("content")
    if content is None and role == ASSISTANT:
        content = ""
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    if not isinstance(content, str):
        raise ValueError(f"[{number}].content must be text, or a list of parts of type text")
    return role, content


def _part(part: Any, number: int) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    raise ValueError(f"[{number}].content must have parts of type text only")


class OpenAIRequest(GenerationConfig):
    """What both bodies have in common, besides the settings of the library."""

    model: str = setting(description="which model, as GET /v1/models lists them")
    n: int | None = setting(default=None, ge=1, description="how many texts for each prompt")
    seed: int | None = setting(
        default=None,
        ge=-(2**63),
        le=2**63 - 1,
        description="the same seed gives the same texts; random_seed, if you will",
    )
    stop: Any = setting(
        default=(), check=_stops, description="text that ends the output, or some of them"
    )
    temperature: float | None = setting(  # type: ignore[assignment]  # left out is not 1 in a chat
        default=None, ge=0, le=2, description="0: always the likeliest character; 1: as learned"
    )
    top_p: float | None = setting(
        default=None,
        ge=0,
        le=1,
        description="draw from the fewest likeliest characters whose probabilities add up to this",
    )
    stream: bool = setting(default=False, description="whether the texts come piece by piece")
    stream_options: Any = setting(
        default=None, check=_stream_options, description="include_usage: a last chunk with usage"
    )

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Null means absent; what is ignored is left out, and so is what asks for nothing."""
        known = cls.fields().keys() | NEUTRAL.keys() | IGNORED
        given = {key: v for key, v in values.items() if v is not None or key not in known}
        problems = [
            FieldProblem(key, UNSUPPORTED, shown(value))
            for key, value in given.items()
            if key in NEUTRAL and not any(_same(value, each) for each in NEUTRAL[key])
        ]
        rest = {k: v for k, v in given.items() if k not in NEUTRAL and k not in IGNORED}
        try:
            made = super().checked(rest, where)
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems], where) from None
        if problems:
            raise ConfigError(problems, where)
        return made

    def _fit(self, context: Any) -> None:
        if self.n is not None and "count" in self.said():
            raise ValueError("count must be left out where n is given")
        if self.seed is not None and self.random_seed is not None:
            raise ValueError("random_seed must be left out where seed is given")

    @property
    def asks_for_usage(self) -> bool:
        """Whether a stream is to end with what it amounts to."""
        return bool((self.stream_options or {}).get("include_usage"))

    def generation(self, longest: int | None = None, **more: Any) -> GenerationConfig:
        """The library's part of the request. `longest`: a text, by OpenAI's name for it; beside
        max_length the smaller one holds. `more` is for what wasn't said. Raises ConfigError.
        """
        ours = GenerationConfig.fields()
        said = {name: value for name, value in self.said().items() if name in ours}
        values = {name: value for name, value in more.items() if value is not None} | said
        if longest is not None:
            values["max_length"] = min(longest, values.get("max_length", longest))
        if self.n is not None:
            values["count"] = self.n
        if self.seed is not None:
            values["random_seed"] = self.seed % 2**53
        if self.top_p == 0:
            values["top_p"] = SMALLEST_TOP_P
        return GenerationConfig.checked(values)


class CompletionRequest(OpenAIRequest):
    """The body of POST /v1/completions."""

    prompt: Any = setting(
        default=[""], check=_prompts, description="what texts begin with; a list for several"
    )
    max_tokens: int | None = setting(
        default=None,
        ge=0,
        description="most characters after the prompt; left out: as long as the model's texts are",
    )
    echo: bool = setting(default=False, description="whether the prompt is part of the text")
    logprobs: int | None = setting(
        default=None,
        ge=0,
        le=MOST_TOP_LOGPROBS,
        description="log-probabilities, with so many of the likeliest characters of each place",
    )


class ChatRequest(OpenAIRequest):
    """The body of POST /v1/chat/completions."""

    messages: Any = setting(check=_messages, description="the talk so far; the last is the user's")
    max_completion_tokens: int | None = setting(
        default=None, ge=1, description="most characters of a reply"
    )
    max_tokens: int | None = setting(
        default=None, ge=1, description="the older name of max_completion_tokens"
    )
    logprobs: bool = setting(default=False, description="whether log-probabilities are wanted")
    top_logprobs: int | None = setting(
        default=None,
        ge=0,
        le=MOST_TOP_LOGPROBS,
        description="so many of the likeliest characters of each place, with logprobs",
    )

    def _fit(self, context: Any) -> None:
        super()._fit(context)
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs must be left out where logprobs is not true")
        if self.messages[-1][0] != "user":
            raise ValueError("messages must end with one of the user's")

    @property
    def longest(self) -> int | None:
        """The most characters of a reply, by either name."""
        return self.max_completion_tokens or self.max_tokens

    def turns(self) -> tuple[list[tuple[str, str]], str]:
        """Whole turns, and what is said now. What is said in several messages is joined; a reply
        before the first question is left out, and so is what the system says.
        """
        turns: list[tuple[str, str]] = []
        asked, answered = "", ""
        for role, text in self.messages:
            if role == ASSISTANT:
                answered = f"{answered} {text}" if asked else ""
            elif role == "user":
                if answered:
                    turns.append((asked, answered))
                    asked, answered = "", ""
                asked = f"{asked} {text or ' '}"
        return turns, asked


def limited(model: type[R], settings: ServiceSettings) -> type[R]:
    """A request with the bounds that the operator set in place of the library's."""
    longest, most = settings.max_length, settings.max_count
    limits = {"count": most, "n": most, "min_length": longest, "max_length": longest}
    limits |= {"max_tokens": longest, "max_completion_tokens": longest}
    fields = model.fields()
    capped = {
        name: fields[name]._replace(rules={**fields[name].rules, "le": limit})
        for name, limit in limits.items()
        if name in fields
    }
    return type(model.__name__, (model,), capped)


def _same(one: Any, other: Any) -> bool:
    """Equal, as JSON has it: false is not 0."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
