"""What the service answers, as JSON schemas: every body, every header, and an example of each.

They describe; the tests hold every answer of theirs against them.
"""

from typing import Any, get_args

import charrnn
from charrnn.config import LARGEST_RANDOM_SEED

Schema = dict[str, Any]

FINISH_REASONS = list(get_args(charrnn.Sample.__annotations__["finish_reason"]))
VERSION = {"type": "string", "pattern": "^[0-9a-f]{12}$"}
PROBLEM = "application/problem+json"


def ref(name: str, kind: str = "schemas") -> Schema:
    """A reference to a component of the document."""
    return {"$ref": f"#/components/{kind}/{name}"}


def shape(description: str, **properties: Schema) -> Schema:
    """An object that always has these members."""
    required = [name for name in properties if not properties[name].pop("optional", False)]
    kept = {"required": required} if required else {}
    return {"type": "object", "description": description, "properties": properties, **kept}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _number(description: str, **more: Any) -> Schema:
    return {"type": "number", "description": description, **more}


def _count(description: str, **more: Any) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description, **more}


def _list_of(name: str, description: str) -> Schema:
    return {"type": "array", "items": ref(name), "description": description}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _whole_answer() -> dict[str, Schema]:
    """The members that an answer and the last event of a stream have in common."""
    return {
        "model": _text("the model that wrote them"),
        "version": {**VERSION, "description": "its version: ask for it to have the same again"},
        "seed": _text("what every text begins with, as the model reads it"),
        "random_seed": _count(
            "what to send as `random_seed` to have the same texts again",
            maximum=LARGEST_RANDOM_SEED,
        ),
        "requested": _count("how many texts were asked for", minimum=1),
        "characters": _count("characters that were drawn in all, the seeds excluded"),
        "shortfall": _or_null(
            _text("why there are fewer texts than that; null where there are not")
        ),
    }


def _verdict() -> dict[str, Schema]:
    """What is known of a text once it has ended."""
    return {
        "logprob": _number(
            "natural log-probability at temperature 1, without limits; the seed excluded, the end "
            "symbol included"
        ),
        "finish_reason": _text(
            "`end`: the network ended it; `length`: it reached max_length; `stop`: a stop text "
            "came; `time`: the time limit of a request was over",
            enum=FINISH_REASONS,
        ),
        "novel": {
            "type": ["boolean", "null"],
            "description": "whether the name is nowhere in the list that the model learned from "
            "and was tested on; null for running text",
        },
    }


def schemas() -> dict[str, Schema]:
    """Every body that the service answers with, by its name."""
    index = {"type": "integer", "minimum": 0, "description": "which of the texts, from 0"}
    named = {"type": "object", "additionalProperties": {"type": "string"}}
    loss = ref("HeldOutLoss")
    return {
        "Answer": shape(
            "Texts, and what it takes to have them again.",
            **_whole_answer(),
            samples=_list_of("Sample", "the texts, in order"),
        ),
        "Sample": shape("A text.", text=_text("the seed and what follows it"), **_verdict()),
        "StreamPiece": shape(
            "An event of a stream: the next piece of a text.",
            index=index,
            text=_text("to be put after the pieces of this index that came before"),
        ),
        "StreamDone": shape(
            "The last event of a stream: all but the texts.",
            **_whole_answer(),
            samples=_list_of("StreamedSample", "what is known of each text"),
        ),
        "StreamedSample": shape("A text that was streamed.", index=index, **_verdict()),
        "BeamAnswer": shape(
            "The most probable names.",
            model=_text("the model whose names they are"),
            version={**VERSION, "description": "its version"},
            seed=_text("what every name begins with, as the model reads it"),
            samples=_list_of("Probable", "the names, the likeliest first"),
            requested=_count("how many names were asked for", minimum=1),
            shortfall=_or_null(
                _text("why there are fewer names than that; null where there are not")
            ),
        ),
        "Probable": shape(
            "A name.",
            text=_text("the seed and what follows it"),
            logprob=_verdict()["logprob"],
            novel=_verdict()["novel"],
        ),
        "Scores": shape(
            "How probable texts are.",
            model=_text("the model that was asked"),
            version={**VERSION, "description": "its version"},
            scores=_list_of("Score", "of each text, in order"),
        ),
        "Score": shape(
            "How probable a text is.",
            text=_text("the text, as the model writes it"),
            logprob=_number("natural log-probability, the end symbol included"),
            perplexity=_number("exp of the mean over its symbols: as unsure as among so many"),
            likelier_than={
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "the share of the model's list whose perplexity is higher, by 2,000 "
                "names of a longer list; null for running text",
            },
            symbols=_list_of("SymbolScore", "its symbols; a name's last one is its end"),
        ),
        "SymbolScore": shape(
            "A symbol of a text.",
            symbol=_text("the symbol; a newline is the end of a name"),
            probability=_number("its probability after what stands before it"),
            logprob=_number("the natural logarithm of that"),
            expected=_list_of("ExpectedSymbol", "what was likeliest there"),
        ),
        "ExpectedSymbol": shape(
            "A symbol that was expected.",
            symbol=_text("the symbol"),
            probability=_number("how probable it was"),
        ),
        "Inspected": _inspected(),
        "InspectedPlace": shape(
            "Before the first symbol of a text, or after one of them.",
            symbol=_text("the symbol just read; empty before the first"),
            expected=_list_of("ExpectedSymbol", "the likeliest next symbols"),
            activations=_numbers("the output of each unit of the layer, from -1 to 1"),
        ),
        "InspectedUnit": shape(
            "A unit at each place of a text.",
            unit=_count("which one, from 0"),
            gates={
                **_by_name(_numbers("a gate at each place")),
                "description": "its gates by their letters in the cell's equations: a sigmoid's "
                "from 0 to 1, the others from -1 to 1",
            },
            parts={
                **_by_name(_numbers("a part at each place")),
                "description": "its part of the state by letters: h is its output, c the cell "
                "state of an LSTM",
            },
        ),
        "InterestingUnit": shape(
            "A unit that goes with something one can say of a place in a name.",
            feature=_text("what"),
            unit=_count("the unit, from 0"),
            correlation=_number(
                "Pearson's r of the two, on names of the list on which it wasn't looked for",
                minimum=-1,
                maximum=1,
            ),
        ),
        "History": shape(
            "What was live when, and what was refused.",
            model=_text("the model"),
            events=_list_of("Event", "the last fifty, oldest first"),
        ),
        "Event": shape(
            "An event of a model's history.",
            event=_text("`promoted`, `refused`, `rolled back` and the like"),
            at=_text("when, as ISO 8601 in UTC"),
            version=_text("which version"),
            reason=_text("why"),
            validation=_or_null(
                _number("its nats per character on the names held out for choices")
            ),
            test=_or_null(_number("and on those for the last figure")),
        ),
        "Models": shape(
            "What is served.",
            models=_list_of("Model", "the models, by name"),
            default=_text("the model of a request that names none"),
        ),
        "Model": _model(),
        "LearnedFrom": shape(
            "The data of a model.",
            **{
                name: {**_count(meaning), "optional": True}
                for name, meaning in {
                    "bytes": "size of the file",
                    "characters": "characters of what it learned from; of words, words and marks",
                    "train": "names, blocks of text, or sentences, that it learned from",
                    "validation": "those held out for choices",
                    "test": "those held out for the last figure",
                }.items()
            },
            sha256=_text("of the file", optional=True),
        ),
        "Evaluation": shape(
            "Losses on what the model has never learned from.",
            validation={**loss, "optional": True},
            test={**loss, "optional": True},
        ),
        "HeldOutLoss": shape(
            "A loss.",
            nats_per_character=_number(
                "mean negative log-probability of a symbol: a character, or a word or mark"
            ),
            characters=_count("over so many symbols"),
            sequences=_count("in so many names, blocks or sentences"),
        ),
        "Health": shape(
            "Whether the service is well.",
            status=_text("`ok`"),
            version=_text("of charrnn"),
            models={**named, "description": "the live version of each model, in full"},
        ),
        "Liveness": shape("That the process answers.", status=_text("`ok`")),
        "Index": shape(
            "What there is.",
            name=_text("`charrnn`"),
            version=_text("of charrnn"),
            endpoints={**named, "description": "every route, and what it gives"},
            example=_text("a command to copy"),
        ),
        "Problem": _problem(),
        "BrokenRule": _broken_rule(),
    }


def _model() -> Schema:
    return shape(
        "A model: its network, its data, how well it predicts what it has never seen.",
        name=_text("its name"),
        version={**VERSION, "description": "the live version"},
        kind=_text(
            "a list of names, running text, or conversations", enum=["names", "text", "chat"]
        ),
        unit=_text("what a symbol is", enum=["character", "word"]),
        cell=_text("kind of recurrent cell: rnn, lstm or gru"),
        hidden_size=_count("units in each layer"),
        num_layers=_count("stacked recurrent layers"),
        parameters=_count("trained numbers"),
        vocabulary=_count("symbols that it reads and writes"),
        known_characters=_text("the characters that a seed may have; a model of words takes all"),
        max_length=_count("most symbols of a text where a request has no max_length"),
        trained_on=ref("LearnedFrom"),
        evaluation=ref("Evaluation"),
        promoted_at=_or_null(
            _text("when it went live, as ISO 8601 in UTC; null while another is about to")
        ),
    )


def _inspected() -> Schema:
    return shape(
        "What the network holds as it reads a text.",
        model=_text("the model that was asked"),
        version={**VERSION, "description": "its version"},
        text=_text("the text, as the model writes it"),
        layer=_count("whose units they are, from 1", minimum=1),
        steps=_list_of("InspectedPlace", "before the first symbol, and after each"),
        units=_list_of("InspectedUnit", "the units that were asked for, or the interesting ones"),
        interesting=_list_of(
            "InterestingUnit",
            "units that go with something one can say of a name, found once for a version; none "
            "for running text, and for layers under the last",
        ),
    )


def _numbers(description: str) -> Schema:
    return {"type": "array", "items": {"type": "number"}, "description": description}


def _by_name(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _problem() -> Schema:
    """RFC 9457, and `errors`."""
    return shape(
        "What went wrong (RFC 9457).",
        type=_text("a URI for the kind of problem: `about:blank`, the status tells it"),
        title=_text("the status in words"),
        status={
            "type": "integer",
            "minimum": 400,
            "maximum": 599,
            "description": "the status code",
        },
        detail=_text("what is wrong, and what to do about it; for people"),
        errors={
            **_list_of("BrokenRule", "every broken rule, at most twenty; with 422 only"),
            "minItems": 1,
            "optional": True,
        },
    )


def _broken_rule() -> Schema:
    return shape(
        "A field that broke a rule.",
        field=_text("the field, or `body`"),
        rule=_text("what it must be"),
        value=_text("what it was, shortened"),
        message=_text("all three in a sentence"),
        character=_text("the character that the model doesn't know", optional=True),
        position={**_count("where it is in the seed, from 0"), "optional": True},
        known=_text("the characters that it knows", optional=True),
    )


def headers() -> dict[str, Schema]:
    """The headers that an answer may carry, besides those of HTTP itself."""
    return {
        "ETag": {
            "description": "tells this content from any other",
            "schema": {"type": "string"},
            "example": '"m1kLw1lXvZ8m4Gce"',
        },
        "Allow": {
            "description": "the methods that this path has",
            "required": True,
            "schema": {"type": "string"},
            "example": "OPTIONS, POST",
        },
        "Retry-After": {
            "description": "seconds to wait before trying again",
            "required": True,
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
            "example": "1",
        },
        "WWW-Authenticate": {
            "description": "the kind of key that is asked for",
            "required": True,
            "schema": {"type": "string"},
            "example": 'Bearer realm="charrnn"',
        },
        "X-Request-ID": {
            "description": "the request's id, as sent or made up; the service's log has it too",
            "schema": {"type": "string"},
            "example": "3f9ac2d41e7b40b2",
        },
    }
