"""The service over tiny weights, in this process."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app
from api.settings import ServiceSettings
from tests.api import tiny
from tests.api.clients import client_of


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """A weights folder to read; `own_weights` is one to change."""
    return tiny.make(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def own_weights(tmp_path: Path) -> tiny.Tiny:
    return tiny.make(tmp_path)


@pytest.fixture(scope="session")
def app(weights: tiny.Tiny) -> Flask:
    return create_app(ServiceSettings(), weights.store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return client_of(app)
