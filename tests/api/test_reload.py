"""Promotions while real workers are under load."""

import shutil
import time

import pytest

import charrnn
from tests.api import tiny
from tests.api.load import connection_to_each_worker, load
from tests.api.server import running

WORKERS = 2
RANDOM_SEEDS = range(4)
BODIES = [{"model": "elves", "random_seed": n, "count": 3} for n in RANDOM_SEEDS]
ENOUGH = 1.0  # seconds in which every worker has a promoted version


def texts_of(store, version):
    """What a version answers to each of the bodies."""
    generator = charrnn.load("elves", version=version, weights=store)
    return {
        n: [sample.text for sample in generator.generate(count=3, random_seed=n)]
        for n in RANDOM_SEEDS
    }


def promote_again_and_again(own_weights, promotions: int) -> list[float]:
    """How long each good promotion took to reach every worker; all else is asserted here."""
    store, took, expected, bad = own_weights.store, [], {}, 0

    def promote(seed: int) -> str:
        version = tiny.promote(store, "elves", seed=seed)
        expected[version[:12]] = texts_of(store, version)
        return version[:12]

    live = promote(1000)
    settings = {"CHARRNN_WORKERS": str(WORKERS), "CHARRNN_LOG_FORMAT": "json"}
    with (
        running(CHARRNN_WEIGHTS=own_weights.root, **settings) as server,
        connection_to_each_worker(server, WORKERS) as pinned,
    ):
        with load(server, BODIES) as seen:
            for number in range(promotions):
                if number % 5 == 3:
                    bad += 1
                    tiny.promote_damaged(store, "elves", number)
                    server.log.wait_for(f"model elves stays at {live}", WORKERS)
                    assert {each.ask(BODIES[0]).answer["version"] for each in pinned} == {live}
                    continue
                live = promote(number)
                since = time.monotonic()
                for each in pinned:
                    while each.ask(BODIES[0]).answer["version"] != live:
                        assert time.monotonic() < since + 30
                took.append(time.monotonic() - since)
        (text, *_) = (each.ask(path="/metrics").answer for each in pinned)
        assert f'charrnn_reloads_total{{model="elves",outcome="refused"}} {bad * WORKERS}.0' in text
    assert not seen.failures()
    assert not seen.broken
    assert len(seen.exchanges) > promotions
    for exchange in seen.exchanges:
        found = [sample["text"] for sample in exchange.answer["samples"]]
        assert found == expected[exchange.answer["version"]][exchange.body["random_seed"]]
    return took


def test_each_answer_is_one_versions_own_and_no_request_fails(own_weights):
    promote_again_and_again(own_weights, 6)


@pytest.mark.prove
def test_a_hundred_promotions_reach_every_worker_within_a_second(own_weights):
    took = promote_again_and_again(own_weights, 100)
    assert len(took) == 80
    assert max(took) < ENOUGH, f"the longest took {sorted(took)[-5:]} seconds"


def test_models_appear_and_go_while_the_service_runs(own_weights):
    with (
        running(CHARRNN_WEIGHTS=own_weights.root, CHARRNN_LOG_FORMAT="json") as server,
        connection_to_each_worker(server, 1) as (connection,),
    ):
        tiny.promote(own_weights.store, "goblins", seed=7)
        server.log.wait_for("model goblins: version")
        assert connection.ask({"model": "goblins"}).status == 200
        shutil.rmtree(own_weights.store.folder("goblins"))
        server.log.wait_for("model goblins is gone")
        assert connection.ask({"model": "goblins"}).status == 404


def test_a_worker_that_takes_anothers_place_knows_what_was_promoted_since_the_start(own_weights):
    with running(CHARRNN_WEIGHTS=own_weights.root, CHARRNN_LOG_FORMAT="json") as server:
        new = tiny.promote(own_weights.store, "elves", seed=99)
        server.log.wait_for("is live")
        server.kill_a_worker()
        server.log.wait_for("Booting worker", 2)
        with connection_to_each_worker(server, 1) as (connection,):
            assert connection.ask({"model": "elves"}).answer["version"] == new[:12]
