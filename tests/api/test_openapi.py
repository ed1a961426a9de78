"""The document is valid and complete, and what it says of a request is what is checked."""

import json
import math
from collections import Counter

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from api import create_app
from api.contract import ROUTES
from api.openapi import routes_of
from api.schemas import GenerateRequest, request_model, request_schema
from api.settings import ServiceSettings
from api.shapes import FINISH_REASONS
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError
from tests.api.documented import Document

KEY = "k3y" * 8
SERVICES = {
    "by default": ServiceSettings(),
    "lowered": ServiceSettings(max_count=3, max_length=40, max_characters=150, max_body=2000),
    "with keys": ServiceSettings(api_keys=KEY),
}
FIELDS = request_schema(request_model(ServiceSettings()))["properties"]


@pytest.fixture(params=SERVICES, scope="module")
def service(request, weights):
    """An application, and a client that brings a key where one is asked for."""
    app = create_app(SERVICES[request.param], weights.store)
    client = app.test_client()
    if SERVICES[request.param].asks_for_keys:
        client.environ_base["HTTP_X_API_KEY"] = KEY
    return app, client


def document_of(service):
    return service[1].get("/openapi.json").json


def test_the_document_is_valid_openapi(service):
    validate(document_of(service))


def test_every_route_is_in_the_document(service):
    app, _ = service
    paths = document_of(service)["paths"]
    described = {(method.upper(), path) for path, each in paths.items() for method in each}
    assert described == set(routes_of(app))
    assert described <= set(ROUTES)


def test_a_route_without_a_promise_is_not_served(monkeypatch, weights):
    monkeypatch.delitem(ROUTES, ("GET", "/models"))
    with pytest.raises(AssertionError, match=r"give GET /models its place in api\.contract"):
        create_app(ServiceSettings(), weights.store)


def test_every_operation_can_be_told_from_the_others_and_says_what_it_is_for(service):
    operations = [each for path in document_of(service)["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert {"200", "400", "405", "500"} <= set(operation["responses"])


def test_every_component_is_used_and_every_reference_leads_somewhere(service):
    document = document_of(service)
    text = json.dumps(document)
    for kind, named in document["components"].items():
        for name in named if kind != "securitySchemes" else ():
            assert f'"$ref": "#/components/{kind}/{name}"' in text, name
    for reference in set(find_references(document)):
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind]


def find_references(part):
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from find_references(inner)


def test_every_example_of_a_request_is_answered(service):
    document, (_, client) = document_of(service), service
    (body,) = document["paths"]["/generate"]["post"]["requestBody"]["content"].values()
    examples = body["examples"]
    assert len(examples) >= 3
    for each in examples.values():
        Document(document).conforms(each["value"], body["schema"])
        answer = client.post("/generate", json=each["value"], buffered=True)
        assert answer.status_code == 200, answer.text


def test_every_example_of_an_answer_has_the_shape_that_it_shows(service):
    content = document_of(service)
    document, seen = Document(content), 0
    for path in content["paths"].values():
        for operation in path.values():
            for response in map(document.resolved, operation["responses"].values()):
                for kind, body in response.get("content", {}).items():
                    for shown in body.get("examples", {}).values():
                        seen += 1
                        document.conforms(shown["value"], body["schema"])
                        if "x-events" in body:
                            assert kind == "text/event-stream"
                            document.check_events(body, shown["value"])
    assert seen > 30


def test_the_example_of_a_stream_has_the_shape_that_it_shows():
    """Whether or not streams are served yet."""
    from api.contract import EVENTS
    from api.shapes import schemas

    body = ROUTES["POST", "/generate"].bodies[EVENTS]
    document = Document({"components": {"schemas": schemas()}})
    document.check_events({"x-events": body.events}, body.examples["one name"])


def test_finish_reasons_are_the_librarys():
    assert FINISH_REASONS == ["end", "length", "stop", "time"]


def test_keys_are_described_where_they_are_asked_for(weights):
    plain = create_app(ServiceSettings(), weights.store).test_client().get("/openapi.json").json
    assert "security" not in plain
    assert "securitySchemes" not in plain["components"]
    assert not any(
        "401" in each["responses"] for p in plain["paths"].values() for each in p.values()
    )

    settings = ServiceSettings(api_keys=KEY)
    closed = create_app(settings, weights.store).test_client().get("/openapi.json").json
    assert closed["security"] == [{"bearer": []}, {"header": []}]
    assert set(closed["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, methods in closed["paths"].items():
        for operation in methods.values():
            is_open = settings.opens(path)
            assert (operation.get("security") == []) is is_open
            assert ("401" in operation["responses"]) is not is_open
    assert KEY not in json.dumps(closed)


# --- One set of bounds ----------------------------------------------------------------------------


def validator(schema):
    return jsonschema_rs.Draft202012Validator(schema)


def refusal(model, values):
    """What the check that requests go through has against these values."""
    try:
        model.checked(values)
    except ConfigError as error:
        return str(error)
    return None


def edges(schema):
    """Values at the bounds of a schema, one step inside and one outside; and of other types."""
    found = [None, True, False, "", [], {}, 0, -1, 0.5, "x", ["x"], [""], [1], [None], 1e308]
    for part in [schema, *schema.get("anyOf", [])]:
        for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if name in part:
                edge = part[name]
                found += [edge, edge - 1, edge + 1, float(edge), edge - 0.5, edge + 0.5]
                found += [math.nextafter(edge, -math.inf), math.nextafter(edge, math.inf)]
        for name in ("minLength", "maxLength"):
            if name in part:
                found += ["a" * size for size in (part[name] - 1, part[name], part[name] + 1)]
        if "items" in part:
            found += [[value] for value in edges(part["items"])]
            found += [["a"] * size for size in (part["maxItems"], part["maxItems"] + 1)]
    for size in (5, 6, 64, 65):  # a version
        found += ["a" * size, "A" * size, "g" * size, "٣" * size, "a" * (size - 1) + "\n"]
    return found


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", ["by default", "lowered"])
def test_a_value_is_taken_where_the_schema_allows_it_and_nowhere_else(name, field):
    model = request_model(SERVICES[name])
    schema = request_schema(model)
    allowed, tried = validator(schema), {True: 0, False: 0}
    for value in edges(schema["properties"][field]):
        says = allowed.is_valid({field: value})
        tried[says] += 1
        if field == "seed" and isinstance(value, str):
            continue  # its length is checked with the model at hand: see the next test
        assert (refusal(model, {field: value}) is None) is says, (field, value)
    assert min(tried.values()) >= 3


@pytest.mark.parametrize("name", ["by default", "lowered"])
def test_a_value_at_a_bound_is_answered_and_one_beyond_it_refused(name, weights):
    """The same through HTTP, for the fields with bounds that the operator lowers."""
    client = create_app(SERVICES[name], weights.store).test_client()
    fields = client.get("/openapi.json").json["components"]["schemas"]["GenerateRequest"]
    largest = {field: part["anyOf"][0] for field, part in fields["properties"].items()}
    bounds = {field: largest[field]["maximum"] for field in ("count", "max_length", "min_length")}
    assert bounds["max_length"] == bounds["min_length"] == largest["seed"]["maxLength"]
    at = {
        "count": {"count": bounds["count"], "max_length": 1},
        "max_length": {"max_length": bounds["max_length"]},
        "min_length": {"min_length": bounds["min_length"]},
        "seed": {"seed": "a" * bounds["max_length"]},
    }
    for field, body in at.items():
        assert client.post("/generate", json=body).status_code == 200, body
        past = body[field] + ("a" if field == "seed" else 1)
        answer = client.post("/generate", json=body | {field: past})
        assert answer.status_code == 422
        assert [each["field"] for each in answer.json["errors"]] == [field]


def test_bounds_are_the_librarys_or_lower():
    ours = request_schema(request_model(ServiceSettings()))["properties"]
    names = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
    lowered = set()
    for name, field in GenerationConfig.fields().items():
        kind = ours[name]["anyOf"][0]
        for word, rule in names.items():
            assert (word in kind) is (rule in field.rules), name
            if word in kind and kind[word] != field.rules[rule]:
                assert kind[word] < field.rules[rule]
                lowered.add(name)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert ours[name]["default"] == default
    assert lowered == {"count", "min_length", "max_length"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
NUMBERS = st.integers(-3, 2100) | st.floats(-1, 12) | st.integers(2**53 - 3, 2**53 + 3)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*FIELDS, "colour"]), NUMBERS | JSON, max_size=4))
@example({"seed": 7, "random_seed": 7})
def test_a_request_is_taken_where_the_schema_allows_it(values):
    """But for two rules between fields, which the document has in words."""
    model = request_model(ServiceSettings())
    between_fields = ("min_length must be at most", "random_seed must be left out")
    problem = refusal(model, values)
    if validator(request_schema(model)).is_valid(values):
        assert problem is None or problem.startswith(between_fields)
    elif not isinstance(values.get("seed"), str):  # its length is checked later
        assert problem is not None


def test_every_field_of_a_request_is_in_the_schema():
    assert set(FIELDS) == set(GenerateRequest.fields())


@pytest.mark.parametrize("limits", [{"max_count": 1}, {"max_length": 5}, {"max_characters": 60}])
def test_every_example_is_answered_whatever_the_operators_limits(chatty, limits):
    settings = ServiceSettings(time_limit=1, **limits)  # which ends a search, too
    client = create_app(settings, chatty.store).test_client()
    content = client.get("/openapi.json").json
    document, seen = Document(content), Counter()
    for path, operations in content["paths"].items():
        body = operations.get("post", {}).get("requestBody", {"content": {}})
        for kind in body["content"].values():
            for each in kind["examples"].values():
                document.conforms(each["value"], kind["schema"])
                answer = client.post(path, json=each["value"], buffered=True)
                assert answer.status_code == 200, answer.text
                seen[path] += 1
    assert len(seen) == 6
