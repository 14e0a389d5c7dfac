# SPDX-License-Identifier: Apache-2.0
"""No weights of whoever runs the tests; and fixtures of those that speak with a running service.

Files that need other options define a `service` of their own.
"""

import os
import time

import pytest
from _support.service_running import Client, serving

os.environ["CROWDGAUSSIAN_WEIGHTS"] = os.devnull  # services inherit it


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with stand-in stages and the usual options, one for each file."""
    with serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.port, service.data_port) as connected:
        yield connected


@pytest.fixture
def photo(tmp_path):
    from _support.stand_ins import write_photo  # which imports torch, and most tests use no photo

    return write_photo(tmp_path / "a.png", seed=time.time_ns() % 2**32).read_bytes()
