"""The entry of a WSGI server: `gunicorn wsgi:app`."""

import sys

from api import create_app
from charrnn.errors import CharRNNError

REFUSED = 3  # by this code a worker tells gunicorn not to start another in its place

try:
    app = create_app()
except CharRNNError as error:
    sys.stderr.write(f"charrnn can't start: {error}\n")
    sys.exit(REFUSED)
