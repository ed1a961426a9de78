"""A character-level recurrent network in numpy: learn a list of names or running text, freeze it
into one file, and generate more.

    import charrnn
    charrnn.load("dinosaurs").generate("Tyr", count=5)
"""

from charrnn.blocklist import Blocklist
from charrnn.chat import Chat
from charrnn.config import BeamConfig, GenerationConfig
from charrnn.errors import CharRNNError
from charrnn.exactness import rows_are_exact
from charrnn.generator import Generator, Piece, Samples, load, preload
from charrnn.scoring import Score
from charrnn.spelling import Speller
from charrnn.store import Store
from charrnn.texts import Request, Sample, Written
from charrnn.threads import blas_kernel, blas_threads
from charrnn.writing import Writer

__version__ = "0.1.0"

__all__ = [
    "BeamConfig",
    "Blocklist",
    "CharRNNError",
    "Chat",
    "GenerationConfig",
    "Generator",
    "Piece",
    "Request",
    "Sample",
    "Samples",
    "Score",
    "Speller",
    "Store",
    "Writer",
    "Written",
    "__version__",
    "blas_kernel",
    "blas_threads",
    "load",
    "preload",
    "rows_are_exact",
]
