import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import create_app
from api.metrics import METHODS, SECONDS, UNMATCHED, Metrics
from api.settings import ServiceSettings
from tests.api import tiny


def read(text: bytes | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    text = text.decode() if isinstance(text, bytes) else text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return read(metrics.text({})).get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_requests_are_counted_by_route_method_and_status(metrics):
    for status in (200, 200, 422):
        metrics.request_ended("/generate", "POST", status, 0.003)
    labels = {"route": "/generate", "method": "POST"}
    assert value(metrics, "charrnn_requests_total", **labels, status="200") == 2
    assert value(metrics, "charrnn_requests_total", **labels, status="422") == 1
    assert value(metrics, "charrnn_request_seconds_count", route="/generate") == 3
    assert value(metrics, "charrnn_request_seconds_bucket", route="/generate", le="0.0025") == 0
    assert value(metrics, "charrnn_request_seconds_bucket", route="/generate", le="0.005") == 3


def test_methods_of_the_clients_own_share_one_label(metrics):
    for method in ("BREW", "PROPFIND", "x" * 5000):
        metrics.request_ended(UNMATCHED, method, 405, 0.001)
    labels = {"route": UNMATCHED, "method": "other", "status": "405"}
    assert value(metrics, "charrnn_requests_total", **labels) == 3
    assert "POST" in METHODS


def test_each_kind_of_event_has_its_numbers(metrics):
    metrics.first_character(0.2)
    metrics.characters(12)
    metrics.characters(3)
    metrics.batch(5)
    metrics.batch(2)
    metrics.waiting(7)
    metrics.refused("busy")
    metrics.reloaded("elves", True)
    metrics.reloaded("elves", False)
    assert value(metrics, "charrnn_first_character_seconds_sum") == pytest.approx(0.2)
    assert value(metrics, "charrnn_characters_total") == 15
    assert value(metrics, "charrnn_batch_sequences") == 2
    assert value(metrics, "charrnn_waiting_texts") == 7
    assert value(metrics, "charrnn_refused_total", reason="busy") == 1
    for outcome in ("loaded", "refused"):
        assert value(metrics, "charrnn_reloads_total", model="elves", outcome=outcome) == 1


def test_the_buckets_go_from_half_a_millisecond_to_a_minute():
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 60)
    assert list(SECONDS) == sorted(SECONDS)


def test_applications_in_one_process_count_apart(weights):
    one, other = (create_app(ServiceSettings(), weights.store).test_client() for _ in range(2))
    for _ in range(3):
        one.post("/generate")
    served = (
        "charrnn_requests_total",
        (("method", "POST"), ("route", "/generate"), ("status", "200")),
    )
    assert read(one.get("/metrics").data)[served] == 3
    assert served not in read(other.get("/metrics").data)


def test_the_page_names_what_is_served(client, weights):
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    live = (("model", "dinosaurs"), ("version", weights.live[:12]))
    assert read(answer.data)["charrnn_model_info", live] == 1


def test_no_path_of_a_client_becomes_a_label(own_weights):
    client = create_app(ServiceSettings(), own_weights.store).test_client()
    for path in ("/nothing", "/models/unicorns", "/models/elves", "/x/../y", "/generate"):
        client.get(path)
    routes = {dict(labels).get("route") for _, labels in read(client.get("/metrics").data)}
    assert routes - {None} == {UNMATCHED, "/models/<name>"}


def test_reloads_are_counted(own_weights):
    app = create_app(ServiceSettings(), own_weights.store)
    tiny.promote(own_weights.store, "elves", seed=99)
    app.extensions["charrnn"].refresh()
    text = app.test_client().get("/metrics").text
    assert 'charrnn_reloads_total{model="elves",outcome="loaded"} 1.0' in text
