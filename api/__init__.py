"""The Flask application. It uses `charrnn` through its public names only."""

import logging
from functools import partial
from pathlib import Path

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.proxy_fix import ProxyFix

import charrnn
from api import (
    errors,
    generate,
    inside,
    observing,
    openai_texts,
    openapi,
    operations,
    page,
    pages,
    probable,
    security,
)
from api.desk import Desk
from api.metrics import Metrics
from api.models import Models
from api.settings import ServiceSettings
from api.watching import Watcher
from charrnn.errors import ConfigError

__all__ = ["create_app"]

UNFINISHED = ".filling"  # in a folder of weights to which the models that ship are being copied

log = logging.getLogger(__name__)


def create_app(
    settings: ServiceSettings | None = None, store: charrnn.Store | None = None
) -> Flask:
    """The service, with every live model loaded; by default as the environment has it.

    Starts no thread: new versions are watched for from the first request on, or from
    `app.extensions["charrnn.watcher"].start()`. Raises CharRNNError, whose message says what to
    do, where a setting is wrong or no model can be loaded.
    """
    charrnn.preload()  # before workers are forked
    settings = settings or ServiceSettings.from_environment()
    metrics = Metrics()
    if store is None:
        store = charrnn.Store(settings.weights)
        _fill_if_fresh(store)
    blocklist = _blocklist(settings.blocklist)
    models = Models(store, settings.model, on_reload=metrics.reloaded, blocklist=blocklist)
    watcher, health = Watcher(models), operations.Health()

    app = Flask(__name__, static_folder=None)
    app.json = _Json(app)
    app.url_map.merge_slashes = False  # no redirects: a path is what it says
    app.extensions |= {
        "charrnn": models,
        "charrnn.metrics": metrics,
        "charrnn.watcher": watcher,
        "charrnn.health": health,
    }
    observing.register(app, metrics, access_log=settings.access_log == "on")
    app.before_request(watcher.start)
    errors.register(app)
    app.extensions["charrnn.desk"] = desk = Desk(models, settings, metrics)
    app.register_blueprint(generate.blueprint(desk))
    app.register_blueprint(openai_texts.blueprint(desk))
    app.register_blueprint(probable.blueprint(models, settings, metrics))
    app.register_blueprint(inside.blueprint(models, settings, metrics))
    app.register_blueprint(operations.blueprint(models, metrics, health))
    index = partial(operations.index, models, settings.max_count)
    app.register_blueprint(page.blueprint(index, settings))
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(pages.blueprint())
    app.extensions["charrnn.openapi"] = openapi.document(app, settings, models.default)
    security.register(app, settings)
    if settings.proxies:
        behind = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=1)
        app.wsgi_app = behind  # type: ignore[method-assign]
    return app


def _blocklist(path: str | None) -> charrnn.Blocklist:
    """The library's words, and those of an operator's file. Raises StartError."""
    if path is None:
        return charrnn.Blocklist.shipped()
    try:
        return charrnn.Blocklist.read(path)
    except ConfigError as error:
        raise errors.StartError(f"CHARRNN_BLOCKLIST can't be used: {error}") from None


def _fill_if_fresh(store: charrnn.Store) -> None:
    """Copy the models that ship to a folder of weights that is empty, or not there yet; and go on
    with a copy that was cut off.
    """
    try:
        root, unfinished = store.root, store.root / UNFINISHED
        if root.exists() and not (root.is_dir() and (unfinished.exists() or _is_empty(root))):
            return
        shipped = charrnn.Store(store.shipped).models()
        if shipped:
            root.mkdir(parents=True, exist_ok=True)
            unfinished.touch()
        for name in shipped:
            if store.fill(name):
                log.info("model %s was copied to %s, which was empty", name, store.root)
        unfinished.unlink(missing_ok=True)
    except OSError as error:  # what can't be loaded then is told by who loads it
        log.warning("%s can't be filled with the models that ship: %s", store.root, error.strerror)


def _is_empty(root: Path) -> bool:
    """Whether nobody has put anything in a folder: a volume of its own has one to begin with."""
    return not any(
        e for e in root.iterdir() if not e.name.startswith(".") and e.name != "lost+found"
    )


class _Json(DefaultJSONProvider):
    sort_keys = False
    compact = True
