"""Programs that the tests of `deploy/` need: CI has them, elsewhere their tests are skipped."""

import os
import shutil
import sys
from pathlib import Path

import pytest

SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin"


def needed(name: str, to_get_it: str) -> str:
    """A program, of this environment or of the system."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{SYSTEM}")
    if found is None:
        assert not os.environ.get("CI"), f"CI must have {name}: {to_get_it}"
        pytest.skip(f"{name} is not installed: {to_get_it}")
    return found
