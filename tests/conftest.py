# SPDX-License-Identifier: Apache-2.0
"""What property tests draw, how long a test may take, and how a run ends where bpy was loaded."""

import os
import sys

import pytest
from hypothesis import settings

_STATUS = pytest.StashKey[int]()
SLOW_SECONDS = 900  # for a test marked slow, its fixtures included; others: timeout in pyproject

# `make test` draws the same few examples every time and everywhere, `make fuzz` many and anew.
settings.register_profile("same", max_examples=25, derandomize=True, database=None, deadline=None)
settings.register_profile("fuzz", max_examples=1000, database=None, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Leave at once: bpy 4.5 can wait for ever for a thread of its own when the process ends."""
    if "bpy" in sys.modules and _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])
