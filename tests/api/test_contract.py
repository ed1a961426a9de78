"""Requests made up by schemathesis from the document, valid and not: every answer is promised.

Six of each kind for every route, and a third of those at the edges of its schema, of one of the
two services; in `make prove` 1,500, and all at the edges, of both.
"""

from collections import Counter
from itertools import islice
from urllib.parse import unquote, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig
from schemathesis.core.failures import FailureGroup
from werkzeug.wrappers import Response

from api import create_app
from api.contract import ROUTES
from api.settings import ServiceSettings
from charrnn.config import MOST_UNITS
from tests.api.documented import Document

KEY = "k3y" * 8
SERVICES = {
    "open": ServiceSettings(time_limit=1),  # which ends a search, too
    "with keys": ServiceSettings(api_keys=KEY, max_count=3, max_length=50, time_limit=1),
}
FEW, MANY = 6, 1500
# What the document says in words, since a schema can't: field and rule.
IN_WORDS = (
    ("seed", "must have only characters that the model knows"),
    ("max_length", "must be at least the seed's length"),
    ("min_length", "must be at most max_length"),
    ("random_seed", "must be left out where seed is a number"),
    ("count", "times max_length must be at most"),
    *(
        (field, rule)
        for field in ("ends_with", "contains", "pattern", "exclude_letters", "seed")
        for rule in ("can't be met", "must have only characters", "is too complicated")
    ),
    ("stop", "must be left out with"),
    ("max_length", "must be at most 500 for names of a shape"),
    ("min_length", "must be at most 500 for names of a shape"),
    ("min_length", "can't be met"),
    ("texts", "must have at most"),
    ("text", "must have only characters that the model knows"),
    ("text", "must have at most"),
    ("layer", "must be from 1 to"),
    *((f"units.{n}", "must be from 0 to") for n in range(MOST_UNITS)),
    *((f"texts.{n}", "must have only characters that the model knows") for n in range(256)),
)
PARAMS_IN_WORDS = {field for field, _ in IN_WORDS} | {
    "prompt",
    "n",
    "count",
    "max_tokens",
    "max_length",
    "min_length",
    "random_seed",
}
PARAMS_IN_WORDS |= {"seed", "top_logprobs", "messages", "model", "logprobs"}
PARAMS_IN_WORDS |= {"novel", "unique", "avoid", "max_similarity", "whole"}  # of names only

load_all_checks()
NO_KEYS_OF_ITS_OWN = GenerationConfig(with_security_parameters=False)
CONFIG = schemathesis.Config(
    projects=ProjectsConfig(default=ProjectConfig(generation=NO_KEYS_OF_ITS_OWN))
)
# Ours, below, knows which valid requests may be refused, and why.
NOT_ALL_ACCEPTED = [CHECKS.get_one("positive_data_acceptance")]
NOT_ALL_REFUSED = [CHECKS.get_one("negative_data_rejection")]
BOTH = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def applications(chatty):
    return {name: create_app(each, chatty.store) for name, each in SERVICES.items()}


def operation_of(app, method, path):
    """The operation as schemathesis has it; skips the test of a route that isn't served."""
    headers = {"X-API-Key": KEY}
    content = app.test_client().get("/openapi.json", headers=headers).json
    if method.lower() not in content["paths"].get(path, {}):
        pytest.skip(f"{method} {path} is not served")
    schema = schemathesis.openapi.from_dict(content, config=CONFIG)
    schema.app = app
    return schema[path][method], Document(content)


class Watch:
    """Sends cases, and holds each answer against the document."""

    def __init__(self, document):
        self.document = document
        self.modes = Counter()
        self.statuses = Counter()

    def send(self, case):
        headers = {"X-API-Key": KEY} if "security" in self.document.content else {}
        answer = case.call(headers=headers)
        self.modes[case.meta.generation.mode.value] += 1
        self.statuses[answer.status_code] += 1
        # A body with too long a list may be too large as a whole: refused by another status.
        not_told = is_blank(answer.request.body) or answer.status_code == 413
        excluded = NOT_ALL_ACCEPTED + (NOT_ALL_REFUSED if not_told else [])
        try:
            case.validate_response(answer, excluded_checks=excluded, headers=headers)
        except FailureGroup as group:
            raise AssertionError(f"{group}") from None
        plain = Response(
            answer.content,
            answer.status_code,
            [(name, value) for name, values in answer.headers.items() for value in values],
        )
        if plain.mimetype != "text/event-stream":  # of which only the beginning is read
            self.document.check(case.method, unquote(urlsplit(case.formatted_path).path), plain)
        if case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
            refused_in_words(plain)


def is_blank(body):
    """Whether a body is one that the document says means `{}`, which no schema can."""
    return body is not None and not body.strip(b" \t\r\n" if isinstance(body, bytes) else None)


def refused_in_words(answer):
    """A valid request is refused for what the document says in words, or not at all."""
    if answer.status_code == 400:  # as OpenAI has it
        assert answer.json["error"]["param"] in PARAMS_IN_WORDS, answer.json
    elif answer.status_code == 422:
        for item in answer.json["errors"]:
            rules = [rule for field, rule in IN_WORDS if field == item["field"]]
            assert any(map(item["rule"].startswith, rules)), item
    else:
        assert answer.status_code in (200, 404, 413, 503)  # 413: a chat as long as it may be


def send_all(app, method, path, count, *, edges):
    """So many cases in each mode that the operation has; of those at the edges one in `edges`."""
    operation, document = operation_of(app, method, path)
    watch = Watch(document)
    route = ROUTES[method, path]
    can_be_wrong = route.takes_texts or route.takes or route.parameters
    for mode in BOTH if can_be_wrong else BOTH[:1]:

        @settings(max_examples=count, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            watch.send(case)

        send()
    if edges:
        cases = operation.schema.iter_coverage_cases(
            operation, generation_modes=BOTH, generation_config=NO_KEYS_OF_ITS_OWN
        )
        for case in islice(cases, 0, None, edges):
            watch.send(case)
    assert watch.modes.total() >= count
    return watch


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_to_a_made_up_request_is_promised(applications, service, method, path):
    is_open = service == "open"
    watch = send_all(applications[service], method, path, FEW, edges=3 if is_open else 0)
    assert watch.statuses[200] >= is_open


@pytest.mark.prove
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_to_thousands_of_made_up_requests_is_promised(
    applications, service, method, path
):
    send_all(applications[service], method, path, MANY, edges=1)
