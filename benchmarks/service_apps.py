"""What the service is measured beside: the plainest Flask applications that answer POST /generate,
a thread for each request and no engine. `gunicorn "benchmarks.service_apps:plain()"`.

They read the model of CHARRNN_MODEL in CHARRNN_WEIGHTS, check a request as the service does, and
answer in its form.
"""

import os
from typing import Any

import numpy as np
from flask import Flask, Response, jsonify, request

import charrnn
from api.schemas import parse_body, request_model
from api.settings import ServiceSettings


def plain() -> Flask:
    """Our own network, each request in its thread."""
    generator = _generator()

    def answer(seed: str, config: charrnn.GenerationConfig) -> list[dict[str, Any]]:
        return [
            {
                "text": sample.text,
                "logprob": sample.logprob,
                "finish_reason": sample.finish_reason,
                "novel": sample.novel,
            }
            for sample in generator.generate(seed, config=config)
        ]

    return _app(answer)


def torch() -> Flask:
    """The same weights in PyTorch: the function under LSTMCell, noise beforehand, one thread."""
    import torch as library

    from benchmarks.peers_torch import TorchFunction

    library.set_num_threads(1)
    generator = _generator()
    peer, vocabulary = TorchFunction(generator.model), generator.vocabulary

    def answer(seed: str, config: charrnn.GenerationConfig) -> list[dict[str, Any]]:
        assert not seed
        made = peer.texts(config.max_length or 1, config.count, vocabulary.start)
        return [
            {
                "text": vocabulary.write(vocabulary.decode(ids)),
                "logprob": logprob,
                "finish_reason": "length",
                "novel": None,
            }
            for ids, logprob in zip(made.ids, made.logprobs, strict=True)
        ]

    return _app(answer)


def _generator() -> charrnn.Generator:
    generator = charrnn.load(os.environ["CHARRNN_MODEL"])
    generator.generate(random_seed=0)
    return generator


def _app(answer: Any) -> Flask:
    app, schema = Flask(__name__), request_model(ServiceSettings.from_environment())

    @app.post("/generate")
    def generate() -> Response:
        asked = schema.checked(parse_body(request.get_data()))
        return jsonify({"samples": answer(asked.seed_text, asked.generation())})

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok", "numpy": np.__version__})

    return app
