"""The entry of a WSGI server: `gunicorn wsgi:app`."""

import os
import sys

from api import create_app, logs
from charrnn.errors import CharRNNError

REFUSED = 3  # by this code a worker tells gunicorn not to start another in its place

try:
    app = create_app()
except CharRNNError as error:
    style = os.environ.get("CHARRNN_LOG_FORMAT", logs.AUTO)  # whatever else is wrong
    sys.stderr.write(logs.refusal(f"charrnn can't start: {error}", style) + "\n")
    sys.exit(REFUSED)
