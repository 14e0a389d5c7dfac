# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that speak with a running service; each file starts its own `service`."""

import time

import pytest
from service_running import Client
from stand_ins import write_photo


@pytest.fixture
def client(service):
    with Client(service.port, service.data_port) as connected:
        yield connected


@pytest.fixture
def photo(tmp_path):
    return write_photo(tmp_path / "a.png", seed=time.time_ns() % 2**32).read_bytes()
