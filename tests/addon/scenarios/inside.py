# SPDX-License-Identifier: Apache-2.0
"""What all scenarios begin with: the installed extension, and nothing of the repository."""

import importlib
import json
import os
import sys
import time
from pathlib import Path

GIVEN = json.loads(sys.argv[-1])
ROOT = Path(__file__).resolve().parents[3]
MODULE = "bl_ext.user_default.crowdgaussian"
sys.path[:] = [p for p in sys.path if p not in (str(ROOT / "shared"), str(ROOT / "addon"))]

import bpy  # noqa: E402

importlib.import_module("addon_utils").enable(MODULE, default_set=True)
PREFERENCES = bpy.context.preferences.addons[MODULE].preferences
PREFERENCES.backend = GIVEN["backend"]
PREFERENCES.cache = GIVEN.get("cache", "")
WAIT = 60.0  # seconds, for anything


def module(name):
    """A module of the installed extension."""
    return importlib.import_module(f"{MODULE}.{name}")


pump = module("ops.timer").pump
session = module("ops.state").session


def pump_until(ready):
    """Timers do not fire here, so the pump is worked by hand."""
    deadline = time.monotonic() + WAIT
    while not ready():
        assert time.monotonic() < deadline, session().rows
        pump()
        time.sleep(0.02)


def settle(row):
    """Until a job has ended and its people are in."""
    pump_until(lambda: not row.active and not pump())


def start(photo):
    """The Reconstruct button -> the job's row."""
    bpy.ops.crowdgaussian.reconstruct(filepath=photo)
    return session().rows[0]


def people():
    """Names of the people in the file."""
    return sorted(c.name for c in bpy.data.collections if c.name.startswith("Person"))


def server_process():
    """Process id of the server that the add-on has started."""
    return session().local.process_id


def tell(**what):
    """The scenario's result."""
    print(json.dumps(what, default=str), flush=True)


def alive(process):
    """Whether a process runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
