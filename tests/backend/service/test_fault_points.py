# SPDX-License-Identifier: Apache-2.0
"""A full disk or a kill at any moment of a job: it ends, and nothing that was finished is lost."""

import os
import subprocess
import sys

import pytest
from _support.service_running import HERE

NOT_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork; run this elsewhere")


@NOT_WINDOWS
def test_a_fault_at_some_writes_does_no_harm():
    """Three of them; `make faults` has one at every write."""
    command = [sys.executable, str(HERE / "_support/fault_points.py"), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 faults at ") and done.stdout.endswith(" points, 0 did harm\n")


@NOT_WINDOWS
def test_jobs_end_rightly_while_broker_worker_and_client_are_killed():
    """Four jobs, three kills and a full disk; `make faults` has 100, 60 and 20."""
    command = [sys.executable, str(HERE / "_support/random_kills.py"), "4", "3", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("1 broker, 1 client, 1 fault, 1 worker; "), done.stdout
    assert done.stdout.endswith("\n4 of 4 jobs done, 0 wrong\n")
