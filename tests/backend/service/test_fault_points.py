# SPDX-License-Identifier: Apache-2.0
"""A full disk or a kill at any write of a job: it ends, and nothing that was finished is lost."""

import os
import subprocess
import sys

import pytest
from _support.service_running import HERE


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork; run this elsewhere")
def test_a_fault_at_some_writes_does_no_harm():
    """Three of them; `make faults` has one at every write."""
    command = [sys.executable, str(HERE / "_support/fault_points.py"), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 faults at ") and done.stdout.endswith(" points, 0 did harm\n")
