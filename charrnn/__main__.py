"""`python -m charrnn`."""

from charrnn.cli import main
from charrnn.console import open_streams

open_streams()
main()
