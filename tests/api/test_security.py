"""Who may ask, and which pages may read the answers."""

import logging
from pathlib import Path

import pytest

from api import create_app
from api.errors import StartError
from api.security import HEADERS
from api.settings import OPEN_PATHS, ServiceSettings
from tests.api.problems import read_problem

ONE, TWO = "0ne" * 8, "tw0" * 8
ORIGIN = "https://example.org"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def closed(weights):
    return create_app(ServiceSettings(api_keys=f"{ONE},{TWO}"), weights.store)


@pytest.fixture(scope="module")
def shared(weights):
    settings = ServiceSettings(api_keys=ONE, cors_origins=f"{ORIGIN},http://localhost:3000")
    return create_app(settings, weights.store)


# --- Keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ONE}"},
        {"Authorization": f"bearer  {TWO} "},
        {"X-API-Key": ONE},
        {"X-API-Key": TWO, "Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": "x", "Authorization": f"Bearer {ONE}"},
    ],
)
def test_any_of_the_keys_opens_every_route(closed, headers):
    client = closed.test_client()
    assert client.post("/generate", headers=headers).status_code == 200
    assert client.get("/models", headers=headers).status_code == 200
    assert client.get("/nothing", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, ""),
        ([("Authorization", "")], ""),
        ({"Authorization": f"Basic {ONE}"}, ""),
        ({"Authorization": ONE}, ""),
        ({"Authorization": "Bearer"}, ', error="invalid_token"'),
        ({"Authorization": "Bearer \xff\xfe"}, ', error="invalid_token"'),
        ({"Authorization": f"Bearer {ONE},{TWO}"}, ', error="invalid_token"'),
        ({"Authorization": "Bearer " + "x" * 8000}, ', error="invalid_token"'),
        ([("X-API-Key", ONE), ("X-API-Key", TWO)], ', error="invalid_token"'),
        ({"X-API-Key": ""}, ', error="invalid_token"'),
        ({"X-API-Key": ONE.upper()}, ', error="invalid_token"'),
        ({"Cookie": f"key={ONE}"}, ""),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", "/static"), ("GET", "/models"), ("GET", "/models/elves"), ("POST", "/generate")],
        *[("GET", "/nothing"), ("PUT", "/models"), ("OPTIONS", "/generate"), ("HEAD", "/models")],
        *[("GET", "/docs/"), ("GET", "//docs"), ("GET", "/healthz/x"), ("GET", "/DOCS")],
    ],
)
def test_without_a_key_nothing_is_told_from_anything_else(closed, method, path, headers, error):
    environ = {"PATH_INFO": path}
    answer = closed.test_client().open(
        "/", method=method, headers=headers, environ_overrides=environ
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f'Bearer realm="charrnn"{error}'
    if method != "HEAD":
        detail = read_problem(401, answer.content_type, answer.data)["detail"]
        assert "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`" in detail
        assert ONE not in answer.text


def test_a_key_in_the_address_is_no_key(closed):
    assert closed.test_client().get(f"/models?api_key={ONE}&X-API-Key={ONE}").status_code == 401


def test_the_open_paths_need_no_key(closed):
    routes = {rule.rule for rule in closed.url_map.iter_rules()}
    asked = routes & set(OPEN_PATHS.split(","))
    assert {"/healthz", "/openapi.json", "/docs"} <= asked
    assert closed.test_client().get("/static/page.css").status_code == 200
    for path in asked:
        assert closed.test_client().get(path).status_code == 200


def test_an_operator_chooses_what_is_open(weights):
    settings = ServiceSettings(api_keys=ONE, open_paths="/models, /healthz")
    client = create_app(settings, weights.store).test_client()
    paths = ["/models", "/healthz", "/docs", "/models/elves"]
    assert [client.get(path).status_code for path in paths] == [200, 200, 401, 401]


def test_an_open_path_that_is_no_route_stops_the_start(weights):
    settings = ServiceSettings(api_keys=ONE, open_paths="/healthz,/helthz")
    with pytest.raises(StartError, match="has '/helthz', and no route is there; the routes are /,"):
        create_app(settings, weights.store)


def test_no_key_is_ever_logged(weights, caplog):
    caplog.set_level(logging.DEBUG)
    client = create_app(ServiceSettings(api_keys=ONE), weights.store).test_client()
    client.get("/models", headers={"X-API-Key": ONE})
    client.get("/models", headers={"Authorization": f"Bearer {TWO}"})
    assert "a request needs one of 1 API keys" in caplog.text
    assert ONE not in caplog.text
    assert TWO not in caplog.text


def test_an_open_service_on_a_network_says_so(weights, caplog):
    caplog.set_level(logging.INFO)
    create_app(ServiceSettings(host="0.0.0.0"), weights.store)
    assert "no API key is asked for: whoever reaches 0.0.0.0 may use it" in caplog.text
    caplog.clear()
    create_app(ServiceSettings(), weights.store)
    assert "API key" not in caplog.text


def test_keys_of_a_file_open_the_service(weights, tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{TWO}\n")
    client = create_app(ServiceSettings(api_keys_file=str(path)), weights.store).test_client()
    assert client.get("/models").status_code == 401
    assert client.get("/models", headers={"X-API-Key": TWO}).status_code == 200


# --- Pages of other origins -----------------------------------------------------------------------


def preflight(client, origin=ORIGIN, path="/generate", method="POST"):
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    return client.options(path, headers=headers)


def allowing(answer):
    return {name: value for name, value in answer.headers if name.startswith("Access-Control")}


@pytest.mark.parametrize("path", ["/generate", "/models", "/nothing"])
def test_no_page_of_another_origin_may_read_anything_unless_it_is_configured(client, path):
    for answer in (client.get(path, headers={"Origin": ORIGIN}), preflight(client, path=path)):
        assert allowing(answer) == {}
        assert "Origin" not in answer.vary


def test_a_preflight_is_answered_without_a_key(shared):
    answer = preflight(shared.test_client())
    assert (answer.status_code, answer.data) == (204, b"")
    assert allowing(answer) == {
        "Access-Control-Allow-Origin": ORIGIN,
        "Access-Control-Allow-Methods": "OPTIONS, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, X-API-Key, X-Request-ID",
        "Access-Control-Max-Age": "600",
        "Access-Control-Expose-Headers": "Retry-After, Server-Timing, WWW-Authenticate, "
        "X-Request-ID",
    }
    assert "Origin" in answer.vary


def test_an_answer_may_be_read_by_a_page_of_a_configured_origin(shared):
    headers = {"X-API-Key": ONE, "Origin": "http://localhost:3000"}
    answer = shared.test_client().post("/generate", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "Origin" in answer.vary
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/generate", "/nothing", "/models"])
def test_a_page_may_read_why_it_was_refused(shared, path):
    answer = shared.test_client().get(path, headers={"Origin": ORIGIN})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin",
    [
        *["https://example.org.evil.net", "http://example.org", "https://example.org:444", "null"],
        *["", "*", "https://example.org, https://example.org", "https://EXAMPLE.org", "\xff"],
    ],
)
def test_a_page_of_another_origin_may_not(shared, origin):
    client = shared.test_client()
    answer = client.get("/healthz", headers={"Origin": origin})
    assert answer.status_code == 200
    for each in (answer, preflight(client, origin)):
        assert allowing(each) == {}
        assert "Origin" in each.vary, "or a cache would hand this to a page that may"


def test_a_star_lets_every_page_read(weights):
    client = create_app(ServiceSettings(cors_origins="*"), weights.store).test_client()
    answer = client.get("/models", headers={"Origin": "https://anywhere.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" not in answer.vary
    assert preflight(client, "https://anywhere.example").status_code == 204


def test_an_options_request_that_is_no_preflight_is_an_ordinary_one(shared, client):
    assert shared.test_client().options("/generate", headers={"Origin": ORIGIN}).status_code == 401
    assert client.options("/generate", headers={"Origin": ORIGIN}).status_code == 200


# --- Headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json", "/nothing", "/generate"])
def test_the_headers_are_on_every_answer_refused_or_not(closed, path):
    answer = closed.test_client().get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_nothing_privileged_is_reachable(app):
    methods = {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    assert methods == {"GET", "HEAD", "OPTIONS", "POST"}
    posts = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    texts = {"/generate", "/beam", "/score", "/inspect"}
    assert posts == texts | {"/v1/completions", "/v1/chat/completions"}
    source = "".join(path.read_text() for path in (ROOT / "api").glob("*.py"))
    privileged = ("promote(", "rollback(", "retrain(", "subprocess", "write_atomically")
    for word in (*privileged, ".write_text", ".write_bytes"):
        assert word not in source


def test_a_page_may_use_openais_own_client(weights):
    app = create_app(ServiceSettings(cors_origins="https://example.org"), weights.store)
    asked = "authorization, x-stainless-lang, openai-project, x-evil, x-stainless-\u00e9"
    answer = app.test_client().options(
        "/v1/chat/completions",
        headers={
            "Origin": "https://example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert allowed[-2:] == ["x-stainless-lang", "openai-project"]
    assert "x-evil" not in allowed
