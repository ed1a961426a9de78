"""The service over tiny weights, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import charrnn
from api import create_app
from api.settings import ServiceSettings
from tests.api import tiny
from tests.api.documented import Client


@pytest.fixture(scope="session", autouse=True)
def _answers_are_documented() -> Iterator[None]:
    """Whatever a test gets from the service in this process is held against its document."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "test_client_class", Client)
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """A weights folder to read; `own_weights` is one to change."""
    return tiny.make(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """The same with a model that chats."""
    return tiny.make(tmp_path_factory.mktemp("chatty"), chats=True)


@pytest.fixture
def own_weights(tmp_path: Path) -> tiny.Tiny:
    return tiny.make(tmp_path)


@pytest.fixture(scope="session")
def app(weights: tiny.Tiny) -> Flask:
    return create_app(ServiceSettings(), weights.store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def names(weights):
    return charrnn.load("dinosaurs", weights=weights.store)


@pytest.fixture
def prose(weights):
    return charrnn.load("prose", weights=weights.store)
