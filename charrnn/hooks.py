"""The hook: a command of the operator's that hears of each promotion and refusal."""

import json
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def run_hook(
    command: Sequence[str], result: Mapping[str, Any], folder: Path, seconds: float
) -> bool:
    """Run a command in `folder`, without a shell, with the result as JSON on its stdin.

    Whatever becomes of it, the training is done: a failure is logged, and False is returned. What
    it writes goes to stderr, since stdout is for the result.
    """
    try:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=2,  # our stderr
            start_new_session=True,  # so that what it started can be ended with it
        )
    except (OSError, ValueError) as error:  # ValueError: no command can have a zero byte
        reason = getattr(error, "strerror", None) or error
        log.warning("the hook %s could not be run: %s", command[0], reason)
        return False
    try:
        process.communicate(json.dumps(result).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        log.warning("the hook %s took longer than %g seconds and was ended", command[0], seconds)
        return False
    if process.returncode:
        log.warning("the hook %s ended with %d", command[0], process.returncode)
    return process.returncode == 0
