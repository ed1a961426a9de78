import shutil
import threading

import pytest

import charrnn
from api import create_app
from api.security import HEADERS
from api.settings import ServiceSettings
from charrnn.errors import WeightsMissingError
from tests.api import tiny
from tests.api.problems import read_problem


def test_the_root_names_every_endpoint_and_an_example(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert (answer.json["name"], answer.json["version"]) == ("charrnn", charrnn.__version__)
    example = """curl -d '{"seed": "Tyr", "count": 5}' http://localhost/generate"""
    assert answer.json["example"] == example


def test_the_example_asks_for_no_more_than_may_be_asked_for(weights):
    client = create_app(ServiceSettings(max_count=2), weights.store).test_client()
    assert """{"seed": "Tyr", "count": 2}""" in client.get("/").json["example"]


def test_every_endpoint_that_the_root_names_is_there_and_no_other(app, client):
    named = set(client.get("/").json["endpoints"])
    there = {
        f"{method} {rule.rule}".replace("<", "{").replace(">", "}")
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert named == there - {"GET /"}


def test_the_example_asks_another_model_for_no_dinosaur(weights):
    client = create_app(ServiceSettings(model="elves"), weights.store).test_client()
    assert "Tyr" not in client.get("/").json["example"]


def test_healthz_names_what_is_served(client, weights):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    store = weights.store
    assert answer.json == {
        "status": "ok",
        "version": charrnn.__version__,
        "models": {name: store.live_version(name) for name in ("dinosaurs", "elves", "prose")},
    }


def test_livez_and_readyz_are_ok_while_there_is_something_to_serve(client):
    for path in ("/livez", "/readyz"):
        answer = client.get(path)
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_worker_that_is_stopping_is_not_ready_and_lives(weights):
    app = create_app(ServiceSettings(), weights.store)
    app.extensions["charrnn.health"].is_draining = lambda: True
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert "stopping" in read_problem(503, answer.content_type, answer.data)["detail"]
    assert app.test_client().get("/livez").status_code == 200


def test_a_service_that_has_lost_its_models_is_not_ready(own_weights):
    app = create_app(ServiceSettings(), own_weights.store)
    for name in ("dinosaurs", "elves", "prose"):
        shutil.rmtree(own_weights.store.folder(name))
    app.extensions["charrnn"].refresh()
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert "no model" in read_problem(503, answer.content_type, answer.data)["detail"]
    assert app.test_client().get("/healthz").json["models"] == {}


def test_health_is_told_while_a_version_is_being_loaded(own_weights, monkeypatch):
    client = create_app(ServiceSettings(), own_weights.store).test_client()
    client.get("/livez")
    loading, go_on = threading.Event(), threading.Event()

    def slow_load(*_: object, **__: object) -> None:
        loading.set()
        assert go_on.wait(timeout=10)
        raise WeightsMissingError("gone")

    monkeypatch.setattr(charrnn, "load", slow_load)
    tiny.promote(own_weights.store, "elves", seed=99)
    assert loading.wait(timeout=10)
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/models"):
        assert client.get(path).status_code == 200
    go_on.set()


def test_models_are_listed_with_their_cards_and_the_default(client):
    answer = client.get("/models")
    assert answer.json["default"] == "dinosaurs"
    assert [card["name"] for card in answer.json["models"]] == ["dinosaurs", "elves", "prose"]
    assert answer.json["models"][0]["max_length"] == 2 * len("tyrannosaurus")
    assert client.get("/models/elves").json == answer.json["models"][1]


@pytest.mark.parametrize("name", ["unicorns", "..", "%00", "%ff", "☃", "x" * 10_000])
def test_an_unknown_model_is_404(client, name):
    answer = client.get(f"/models/{name}")
    assert answer.status_code == 404
    read_problem(404, answer.content_type, answer.data)


@pytest.mark.parametrize(
    ("method", "path", "status", "message", "allow"),
    [
        ("GET", "/nothing", 404, "there is nothing at '/nothing'; GET / lists what there is", None),
        ("GET", "/generate/", 404, "there is nothing at '/generate/'; GET / lists", None),
        ("GET", "/models//elves", 404, "there is nothing at '/models//elves'; GET / lists", None),
        ("GET", "/static/x.js", 404, "there is nothing at '/static/x.js'", None),
        (
            "GET",
            "/generate",
            405,
            "'GET' is not allowed at '/generate'; use OPTIONS, POST",
            "OPTIO",
        ),
        ("PUT", "/generate", 405, "'PUT' is not allowed at '/generate'; use OPTIONS, POST", "OPTI"),
        (
            "TRACE",
            "/",
            405,
            "'TRACE' is not allowed at '/'; use GET, HEAD, OPTIONS",
            "GET, HEAD, O",
        ),
        ("POST", "/healthz", 405, "'POST' is not allowed at '/healthz'; use GET, HEAD", "GET, HEA"),
        ("BREW", "/models", 405, "'BREW' is not allowed at '/models'; use GET, HEAD", "GET, HEAD"),
    ],
)
def test_what_is_not_there_or_not_allowed_is_a_problem(
    client, method, path, status, message, allow
):
    answer = client.open("/", method=method, environ_overrides={"PATH_INFO": path})
    assert answer.status_code == status
    assert read_problem(status, answer.content_type, answer.data)["detail"].startswith(message)
    assert ", ".join(sorted(answer.allow)).startswith(allow or "")


@pytest.mark.parametrize("path", ["/", "/healthz", "/models", "/models/dinosaurs", "/nothing"])
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert head.data == b""
    assert head.status_code == got.status_code
    its_own = {"X-Request-ID", "Server-Timing"}
    assert {k: v for k, v in head.headers.items() if k not in its_own} == {
        k: v for k, v in got.headers.items() if k not in its_own
    }


@pytest.mark.parametrize(("path", "methods"), [("/", {"GET"}), ("/generate", {"POST"})])
def test_options_names_the_methods(client, path, methods):
    answer = client.options(path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert set(answer.allow) - {"HEAD"} == methods | {"OPTIONS"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/generate"])
def test_every_answer_has_the_security_headers(client, path):
    answer = client.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("host", ["", "a b", "a/b", "[::1", "ex\x80ample", "x" * 5000])
def test_a_strange_host_header_breaks_nothing(client, host):
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code in (200, 400)
