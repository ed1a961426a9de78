"""The Flask application. It uses `charrnn` through its public names only."""

from flask import Flask
from flask.json.provider import DefaultJSONProvider

import charrnn
from api import errors, generate, openapi, operations, pages, security
from api.models import Models
from api.settings import ServiceSettings

__all__ = ["create_app"]


def create_app(
    settings: ServiceSettings | None = None, store: charrnn.Store | None = None
) -> Flask:
    """The service, with every live model loaded; by default as the environment has it.

    Starts no thread. Raises CharRNNError, whose message says what to do, where a setting is wrong
    or no model can be loaded.
    """
    settings = settings or ServiceSettings.from_environment()
    models = Models(store or charrnn.Store(settings.weights), settings.model)

    app = Flask(__name__, static_folder=None)
    app.json = _Json(app)
    app.url_map.merge_slashes = False  # no redirects: a path is what it says
    app.extensions["charrnn"] = models
    errors.register(app)
    app.register_blueprint(generate.blueprint(models, settings))
    app.register_blueprint(operations.blueprint(models))
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(pages.blueprint())
    app.extensions["charrnn.openapi"] = openapi.document(app, settings, models.default)
    security.register(app, settings)
    return app


class _Json(DefaultJSONProvider):
    sort_keys = False
    compact = True
