# SPDX-License-Identifier: Apache-2.0
"""No weights of whoever runs the tests; and fixtures of those that speak with a running service.

Each file that needs one starts its own `service`.
"""

import os
import time

import pytest
from _support.service_running import Client
from _support.stand_ins import write_photo

os.environ["CROWDGAUSSIAN_WEIGHTS"] = os.devnull  # services inherit it


@pytest.fixture
def client(service):
    with Client(service.port, service.data_port) as connected:
        yield connected


@pytest.fixture
def photo(tmp_path):
    return write_photo(tmp_path / "a.png", seed=time.time_ns() % 2**32).read_bytes()
