"""A client that reads an answer to its end and closes it, as a server does."""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse


class ClosingClient(FlaskClient):
    """Flask's own leaves an answer open, so that what is done at its end is not done."""

    def open(self, *args: Any, **keywords: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True} | keywords)


def client_of(app: Flask) -> FlaskClient:
    """A closing client of an application."""
    return ClosingClient(app, app.response_class)
