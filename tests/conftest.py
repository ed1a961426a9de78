"""The long proofs run by `make prove` alone; their short forms run in every test. Examples that
hypothesis draws are the same in every run.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CHARRNN_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a long proof: `make prove` runs it"))
